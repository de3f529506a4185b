//! Rules on the files alone: what they are, whether their format holds, what they carry beside weights.

use super::{RuleEntry, RuleLevel, Stage};

/// What these rules share.
const FILES: RuleEntry = RuleEntry {
    code: "",
    title: "",
    stage: Stage::Files,
    level: RuleLevel::Deny,
    limit: None,
    measure: "",
    why: "",
    example: "",
    accept: "",
};

/// The rules, in the order of the scan's checks.
pub(super) const RULES: &[RuleEntry] = &[
    RuleEntry {
        code: "unreadable-file",
        title: "A file that cannot be read",
        why: "A file or folder could not be opened, listed or read to its end. Nothing is known of what it holds, \
              and the digest of the adapter does not cover it. The rule cannot tell a wrong permission from a \
              failing disk.",
        example: "`adapter_model.safetensors` belongs to another user and has mode 0600.",
        accept: "Correct the permissions or fetch the file again, then scan again. If the file is not needed, remove \
                 it from the adapter. No waiver can accept bytes that nobody has seen.",
        ..FILES
    },
    RuleEntry {
        code: "beyond-limits",
        title: "Beyond the limits of the scan",
        why: "The scan stops at 10,000 entries, 16 levels of folders, 4 GiB in one file, 64 MiB of text and 4 MiB of \
              JSON settings, so that a hostile folder cannot use up memory or time. Whatever lies beyond was not \
              looked at, and a verdict that ignored this would cover less than it seems to. The rule says nothing \
              about whether the content is bad.",
        example: "A folder holds 40,000 training checkpoints beside the adapter; the scan ends after 10,000 entries.",
        accept: "Publish only the adapter's own files, or point the gate at the folder that holds them. If the large \
                 file has to stay, set the rule's level for that path in the policy: what was not read has no digest that a \
                 waiver could name. A file that was read in part has one.",
        ..FILES
    },
    RuleEntry {
        code: "link-outside",
        title: "A link out of the folder",
        why: "A symbolic link leads out of the adapter's folder, or nowhere; or, beside adapters, out of what is scanned. On \
              another machine it can lead to another file: what is loaded then is not what was scanned, and a loader or an \
              upload may take in private files. The target was not read. Links that stay inside are not reported, nor are \
              those of a snapshot in the hub's cache to blobs of the same repository, which are followed and pinned.",
        example: "`adapter_model.safetensors` links to `/data/models/latest.safetensors`.",
        accept: "Replace links by the files themselves, for instance with `cp -rL`, and scan the copy. What a link leads to \
                 was not read, so no waiver can accept it.",
        ..FILES
    },
    RuleEntry {
        code: "special-file",
        title: "A pipe, socket or device",
        why: "A pipe, a socket or a device stands where a file is expected. Opening it can block a loader for ever \
              or yield other bytes at every read, so it has no digest and no meaning in a published adapter. It was \
              not opened.",
        example: "`tokenizer.json` is a named pipe, and the training job that opens it hangs.",
        accept: "Delete it, or replace it by a regular file. There is hardly a reason to accept one; if the folder \
                 is also a working directory of some program, gate a clean copy instead of waiving this.",
        ..FILES
    },
    RuleEntry {
        code: "not-entered",
        title: "A link beside adapters that was not followed",
        level: RuleLevel::Warn,
        why: "A link outside of every adapter's folder leads out of what is scanned, or nowhere, and its own name is that of a \
              text, a picture or a program. No loader of models goes by such a name. It is told so that nothing is passed over \
              in silence; links by any other name are `link-outside`.",
        example: "`adapters/README.md` links to `../docs/adapters.md`, and only `adapters` is scanned.",
        accept: "Scan from the folder that holds both, or replace the link by the file. Set the level to allow where links to \
                 texts are usual.",
        ..FILES
    },
    RuleEntry {
        code: "git-folder",
        title: "Git's own folder",
        level: RuleLevel::Allow,
        why: "A `.git` folder of a checkout (it holds `HEAD`, `objects` and `refs`) was not entered. Loaders of models do not \
              look there, and its objects are compressed. A `.git` that is anything else is looked at like any folder or file.",
        example: "An adapter was cloned from the hub, and its folder holds `.git`.",
        accept: "Nothing needs to be done. To be sure that nothing else lies in it, scan a copy without it, for instance one \
                 made with `git archive`.",
        ..FILES
    },
    RuleEntry {
        code: "cache-mismatch",
        title: "A cached file that is not what it is named after",
        why: "In the cache of the hub's download tools a large file is named by its SHA-256. This one has other content: it was \
              changed after the download, by accident or to put other weights where every tool takes the file for the \
              published one. The finding pins the content that is there.",
        example: "`adapter_model.safetensors` links to the blob `9f86d0…`, whose content has the digest `60303a…`.",
        accept: "Delete the blob and download it again. A waiver would accept the changed file; there is hardly a reason to.",
        ..FILES
    },
    RuleEntry {
        code: "deceptive-name",
        title: "A name that hides characters",
        why: "The name of a file or folder, or the path of what is scanned, holds control characters, invisible characters or \
              characters that turn the direction of text. People then read another name than programs do, and terminals can be made to \
              show false output. Ordinary letters of any script are not reported, so letters that merely look alike \
              are not found.",
        example: "`adapter_` U+202E `snosetefas.py` is displayed as if it ended in `safetensors`.",
        accept: "Rename the file to visible characters and find out who named it. If the name cannot change, waive \
                 it by digest with an owner and an expiry date.",
        ..FILES
    },
    RuleEntry {
        code: "disguised-file",
        title: "Content of another kind than the name",
        why: "The first bytes of the file belong to another kind of file than its name promises. Tools that go by \
              the name and loaders that go by the content then treat the same file differently, which is a way past \
              filters. Zip archives under the usual names of torch checkpoints are expected and left to the rules on \
              pickles. Kinds without a recognisable beginning cannot be told apart.",
        example: "`README.md` begins with the bytes of a zip archive; `adapter_model.safetensors` is a pickle.",
        accept: "Give the file its proper name, or remove it, and scan again: the rule for its real kind then \
                 applies. Where the name has to stay, waive it by digest with an owner and an expiry date.",
        ..FILES
    },
    RuleEntry {
        code: "executable",
        title: "Machine code or bytecode",
        why: "The file is machine code or bytecode, by its first bytes or by its name. No adapter needs one, and a \
              library that searches its folder for plug-ins may load it. What the code does is not analysed.",
        example: "`libkernel.so` beside the weights, or `__pycache__/handler.cpython-311.pyc`.",
        accept: "Remove it. If a runtime needs it, ship it through the channel that your other binaries take, where \
                 it is built and signed; until then waive it by digest with an owner and an expiry date.",
        ..FILES
    },
    RuleEntry {
        code: "script",
        title: "A program in source",
        level: RuleLevel::Warn,
        why: "A program in source lies in the adapter's folder. Training scripts are common and harmless while \
              nobody runs them, but serving frameworks look for files such as handlers and run them, and so does a \
              loader that was told to trust the folder. The source is not analysed.",
        example: "`handler.py`, which some inference servers import when they start.",
        accept: "Move programs to a source repository and publish the adapter without them. To keep one, read it and \
                 waive it by digest, so that the waiver ends when the file changes; or set the level to allow where \
                 nothing runs code from adapter folders.",
        ..FILES
    },
    RuleEntry {
        code: "remote-code",
        title: "Configuration that makes a loader run code",
        why: "A JSON or YAML file holds a setting by which loaders import and run code: `auto_map`, `trust_remote_code`, \
              `custom_generate`, an attention or expert implementation from a repository, a module of `modules.json` or a \
              `parent_library` outside the usual libraries, hydra's `_target_`, a tag `!!python/…`, a pickled object. \
              Whoever loads the folder with trust enabled runs what the publisher chose, possibly fetched later from \
              elsewhere. The rule sees the setting, and not whether your loader honours it.",
        example: "`config.json` holds `\"auto_map\": {\"AutoModel\": \"modeling_x.Model\"}`.",
        accept: "Remove the setting; plain LoRA and DoRA adapters load without it. If the code is needed, review it, \
                 pin its revision, and waive this file by digest with an owner and an expiry date.",
        ..FILES
    },
    RuleEntry {
        code: "unknown-file",
        title: "A kind of file that is not looked into",
        level: RuleLevel::Warn,
        why: "The scan has no reader for this kind of file, so nothing is known of its content but its digest. It \
              may hold weights of another format, data or anything else. The rule is no statement that something is \
              wrong.",
        example: "`model.gguf` beside the adapter; `firmware.bin`, which is neither a pickle nor tensors; an `.npz` of numbers.",
        accept: "Remove what is not part of the adapter. For a file that has to stay, waive it by digest with an \
                 owner and an expiry date; or set the level to allow if your loaders open nothing but the adapter's \
                 own files.",
        ..FILES
    },
    RuleEntry {
        code: "lfs-pointer",
        title: "A large-file pointer in place of the file",
        why: "The file is the small text that Git's large-file storage leaves where the content was not fetched. The \
              scan has judged the pointer and not the weights, which will arrive later. A pass would say nothing \
              about them.",
        example: "`adapter_model.safetensors` has 134 bytes and begins with `version https://git-lfs`.",
        accept: "Run `git lfs pull` (in CI, check out with large files) and scan again. Do not waive this: the \
                 digest would be that of the pointer.",
        ..FILES
    },
    RuleEntry {
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
        ..FILES
    },
    RuleEntry {
        code: "trainer-state",
        title: "What a trainer left beside the adapter",
        level: RuleLevel::Warn,
        why: "The file is a pickle by the name under which training libraries save their arguments, optimizer, schedule or \
              random numbers (`training_args.bin`, `optimizer.pt`, `scheduler.pt`, `scaler.pt`, `rng_state*.pth`), and what it \
              imports and calls is exactly what such files do. Or it holds moments of the adapter's own tensors, as \
              `lcr-audit train` saves them. One import or call of another kind, and it is an ordinary pickle. Loading it \
              still runs code of the libraries that it names, and no user of the adapter needs it.",
        example: "`training_args.bin` makes `transformers.training_args.TrainingArguments` and looks up members of its \
                  enumerations.",
        accept: "Leave it out when the adapter is published: it also tells paths and names of the machine that trained it. \
                 To keep it, waive it by digest, or set the level to allow.",
        ..FILES
    },
    RuleEntry {
        code: "pickle-import",
        title: "A pickle that names more than tensors need",
        why: "The pickle imports a function or class that no tensor file needs. Loading it can run commands, open \
              connections or change files. The rule goes by names: a settings object of a training library is \
              reported like a shell call, though the second is far worse, so read the name in the finding.",
        example: "The pickle imports `posix.system`; or, less alarming, a class of training arguments.",
        accept: "Do not load the file outside a sandbox. Ask the publisher for safetensors. A waiver by digest with \
                 an owner and an expiry date is defensible only where every name was looked up and is known to do no \
                 harm.",
        ..FILES
    },
    RuleEntry {
        code: "pickle-malformed",
        title: "A pickle that cannot be followed",
        why: "The pickle breaks off, contradicts itself or exceeds what the scan follows, so its list of imports is \
              incomplete. A real loader may run the part before the fault: damage is also a way to stop a scanner \
              early. The rule cannot tell an interrupted download from intent.",
        example: "The instructions end without a final stop after the first 200 bytes, and an import stands before \
                  that.",
        accept: "Fetch the file again and compare its digest with the publisher's; better, replace it by \
                 safetensors. A file that stays unreadable should be removed and not waived.",
        ..FILES
    },
    RuleEntry {
        code: "archive",
        title: "An archive",
        why: "An archive keeps its files away from the scan until something unpacks it: what is inside counts \
              towards no other rule. An adapter needs none. Whatever is read from its directory, its members are not \
              scanned as files of the adapter.",
        example: "`checkpoint.tar.gz` lies beside the weights.",
        accept: "Unpack it in an empty folder, keep what belongs to the adapter, and scan that. To keep the archive, \
                 waive it by digest with an owner and an expiry date after its content was scanned.",
        ..FILES
    },
    RuleEntry {
        code: "archive-hostile",
        title: "An archive built to do harm",
        why: "The archive's directory holds paths that lead out of the folder, sizes that expand beyond reason, or \
              entries that contradict each other. Unpacking it can overwrite files or fill a disk, and two programs \
              can see two different contents. Such a structure hardly arises by accident.",
        example: "A member is called `../../.ssh/authorized_keys`.",
        accept: "Do not unpack it. Remove it and tell whoever published it. A waiver is not a sensible answer: \
                 rebuild the archive from its sources instead.",
        ..FILES
    },
    RuleEntry {
        code: "header-size",
        title: "A safetensors header that is too long",
        why: "The header claims more than 8 MiB, where a thousand tensors take about 100 KB. A loader that believes \
              the claim allocates that much memory, and a long header is a place to hide data. Nothing behind it was \
              read.",
        example: "The first eight bytes of the file claim a header of 2 GiB.",
        accept: "Save the tensors again with the safetensors library. A waiver by digest with an owner and an expiry \
                 date leaves every tensor of the file unread, so it needs another analysis to stand on.",
        ..FILES
    },
    RuleEntry {
        code: "header-syntax",
        title: "A safetensors header that breaks the format",
        why: "The header is not the JSON that the safetensors format asks for. Lenient readers may still load such a \
              file, each in its own way, so that different programs see different tensors. No tensor of the file was \
              analysed.",
        example: "The header names one tensor twice with different offsets, or an entry lacks its offsets.",
        accept: "Save the tensors again with the safetensors library and scan the new file. Do not waive it: there \
                 is nothing that was read and could be accepted.",
        ..FILES
    },
    RuleEntry {
        code: "truncated",
        title: "A file shorter than its header says",
        why: "The header places tensors beyond the end of the file. Mostly a transfer was interrupted, but a file \
              that was cut also evades a check of its content. Its tensors were not read.",
        example: "The header ends its last tensor at byte 52,428,800, and the file has 31,457,280 bytes.",
        accept: "Download it again and compare its size and digest with the publisher's. A truncated file is of no \
                 use, so there is nothing to waive.",
        ..FILES
    },
    RuleEntry {
        code: "tensor-layout",
        title: "A tensor whose description contradicts itself",
        why: "The dtype and the shape of a tensor ask for another number of bytes than the header assigns to it, its \
              offsets run backwards, or its dtype is unknown to the format. Readers differ in which of these they \
              believe, and careless ones read beyond the tensor.",
        example: "A tensor of dtype F32 and shape [8, 64] is given 1,024 bytes where 2,048 are needed.",
        accept: "Save the tensors again from the training run. If the file cannot be produced anew, ask where it \
                 came from; a waiver would accept tensors that no rule has looked at.",
        ..FILES
    },
    RuleEntry {
        code: "overlapping-tensors",
        title: "Tensors that share bytes",
        why: "Two tensors of the file claim the same bytes, which the format forbids. Ordinary tools do not write \
              this. It allows a file that is also valid under another format, or tensors that change together when \
              one is edited.",
        example: "`lora_A.weight` spans data bytes 0 to 4096, and `lora_B.weight` begins at byte 2048.",
        accept: "Save the tensors again with the safetensors library; tied tensors have to be stored once or copied. \
                 Refuse the file if its publisher cannot explain it, since a waiver would leave it unanalysed.",
        ..FILES
    },
    RuleEntry {
        code: "unclaimed-bytes",
        title: "Bytes that belong to no tensor",
        why: "The file holds bytes that no tensor claims, between tensors or at its end. The format forbids such \
              gaps because they hide data: a second file, a payload for another program, or a mark of origin. What \
              the bytes are is not analysed.",
        example: "A zip archive of 3 MB is appended after the last tensor.",
        accept: "Save the tensors again, which drops the bytes, and look at what they were. A waiver by digest with \
                 an owner and an expiry date means that tensors and gap alike pass without analysis.",
        ..FILES
    },
    RuleEntry {
        code: "non-finite",
        title: "NaN or infinity in a tensor",
        why: "A tensor holds NaN or infinity. One such value normally turns every output of the model into NaN, and \
              statistics over the tensor mean nothing. It points to a diverged training run, a bad conversion, or \
              sabotage, and the rule cannot tell which.",
        example: "Element 5120 of `layers.7.self_attn.v_proj.lora_B.weight` is NaN.",
        accept: "Take an earlier checkpoint or train again with a lower learning rate. Setting the value to zero \
                 hides the cause. A waiver by digest with an owner and an expiry date suits test material only.",
        ..FILES
    },
    RuleEntry {
        code: "metadata",
        title: "Unusual metadata in a safetensors header",
        level: RuleLevel::Warn,
        why: "The header's `__metadata__` is longer than 16 KiB, or holds program text, hidden characters or 512 and \
              more characters of encoded data. No loader needs that, and other programs may pick it up from there. \
              Some training tools store all their settings here, which is long but harmless.",
        example: "The key `note` holds `__import__('os').system(…)`.",
        accept: "Save the file without metadata (the note `format: pt` is enough). If it records how the adapter was \
                 trained, read it and waive it by digest with an owner and an expiry date.",
        ..FILES
    },
    RuleEntry {
        code: "unanalysed-tensor",
        title: "A tensor that no check looked into",
        why: "A tensor is stored in a form that the scan does not read: a dtype other than F32, F16 and BF16, or \
              inside a pickle. A loader may use it all the same. A pass would therefore say nothing about this part \
              of the adapter.",
        example: "`lora_A.weight` is stored as F8_E4M3, or the adapter's only weights are in `adapter_model.bin`.",
        accept: "Store the adapter in safetensors as F32, F16 or BF16. If the dtype has to stay, waive it by digest \
                 with an owner and an expiry date, and have the tensor examined by other means.",
        ..FILES
    },
];
