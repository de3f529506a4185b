//! Rules on pickles, which are programs, and on archives, whose members nobody scans.

use lcr_scan::Check;

use crate::rules::{Judge, RestsOn, Rule, Severity, Stage};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] =
    &[&PICKLE, &TRAINER_STATE, &PICKLE_IMPORT, &PICKLE_MALFORMED, &ARCHIVE, &ARCHIVE_HOSTILE];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Files, level: Severity::Deny, rests_on: RestsOn::ItsFile, ..Rule::NONE };

pub(crate) static PICKLE: Rule = Rule {
    code: "pickle",
    title: "A pickle",
    why: "A pickle is a small program that is run when the file is loaded, and whatever it imports or calls \
          happens with the rights of the loader. The scan follows its instructions without running them; weights \
          in it are not read or analysed. A pickle without suspicious imports can still be replaced later by one \
          with them.",
    example: "`adapter_model.bin`, as older versions of training libraries save it.",
    accept: "Convert weights to safetensors in a sandbox, delete other pickles (`training_args.bin` and \
             optimiser states are not needed to use an adapter), and scan again. To keep one, waive it by digest \
             with an owner and an expiry date, and load it with a restricted unpickler only.",
    judges: &[Judge::Scan(Check::Pickle)],
    ..FAMILY
};

pub(crate) static TRAINER_STATE: Rule = Rule {
    code: "trainer-state",
    title: "What a trainer left beside the adapter",
    level: Severity::Warn,
    why: "The file is a pickle by the name under which training libraries save their arguments, optimizer, schedule or \
          random numbers (`training_args.bin`, `optimizer.pt`, `scheduler.pt`, `scaler.pt`, `rng_state*.pth`), and \
          what it imports and calls is exactly what such files do. Or it holds moments of the adapter's own tensors, \
          as `lcr-audit train` saves them. One import or call of another kind, and it is an ordinary pickle. Loading \
          it still runs code of the libraries that it names, and no user of the adapter needs it.",
    example: "`training_args.bin` makes `transformers.training_args.TrainingArguments` and looks up members of its \
              enumerations.",
    accept: "Leave it out when the adapter is published: it also tells paths and names of the machine that trained it. \
             To keep it, waive it by digest, or set the level to allow.",
    judges: &[Judge::Scan(Check::TrainerState)],
    ..FAMILY
};

pub(crate) static PICKLE_IMPORT: Rule = Rule {
    code: "pickle-import",
    title: "A pickle that names more than tensors need",
    why: "The pickle imports a function or class that no tensor file needs. Loading it can run commands, open \
          connections or change files. The rule goes by names: a settings object of a training library is \
          reported like a shell call, though the second is far worse, so read the name in the finding.",
    example: "The pickle imports `posix.system`; or, less alarming, a class of training arguments.",
    accept: "Do not load the file outside a sandbox. Ask the publisher for safetensors. A waiver by digest with \
             an owner and an expiry date is defensible only where every name was looked up and is known to do no \
             harm.",
    judges: &[Judge::Scan(Check::PickleImport)],
    ..FAMILY
};

pub(crate) static PICKLE_MALFORMED: Rule = Rule {
    code: "pickle-malformed",
    title: "A pickle that cannot be followed",
    why: "The pickle breaks off, contradicts itself or exceeds what the scan follows, so its list of imports is \
          incomplete. A real loader may run the part before the fault: damage is also a way to stop a scanner \
          early. The rule cannot tell an interrupted download from intent.",
    example: "The instructions end without a final stop after the first 200 bytes, and an import stands before \
              that.",
    accept: "Fetch the file again and compare its digest with the publisher's; better, replace it by \
             safetensors. A file that stays unreadable should be removed and not waived.",
    judges: &[Judge::Scan(Check::PickleMalformed)],
    ..FAMILY
};

pub(crate) static ARCHIVE: Rule = Rule {
    code: "archive",
    title: "An archive",
    why: "An archive keeps its files away from the scan until something unpacks it: what is inside counts \
          towards no other rule. An adapter needs none. Whatever is read from its directory, its members are not \
          scanned as files of the adapter.",
    example: "`checkpoint.tar.gz` lies beside the weights.",
    accept: "Unpack it in an empty folder, keep what belongs to the adapter, and scan that. To keep the archive, \
             waive it by digest with an owner and an expiry date after its content was scanned.",
    judges: &[Judge::Scan(Check::Archive)],
    ..FAMILY
};

pub(crate) static ARCHIVE_HOSTILE: Rule = Rule {
    code: "archive-hostile",
    title: "An archive built to do harm",
    why: "The archive's directory holds paths that lead out of the folder, sizes that expand beyond reason, or \
          entries that contradict each other. Unpacking it can overwrite files or fill a disk, and two programs \
          can see two different contents. Such a structure hardly arises by accident.",
    example: "A member is called `../../.ssh/authorized_keys`.",
    accept: "Do not unpack it. Remove it and tell whoever published it. A waiver is not a sensible answer: \
             rebuild the archive from its sources instead.",
    judges: &[Judge::Scan(Check::ArchiveHostile)],
    ..FAMILY
};
