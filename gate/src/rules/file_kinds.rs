//! Rules on the files of a folder: whether they could be read, and what kind each is.

use lcr_scan::Check;

use crate::rules::{Exception, Judge, RestsOn, Rule, Severity, Stage, UNREAD};

/// Every rule of the family.
pub(crate) static RULES: &[&Rule] = &[
    &UNREADABLE_FILE,
    &BEYOND_LIMITS,
    &LINK_OUTSIDE,
    &SPECIAL_FILE,
    &NOT_ENTERED,
    &GIT_FOLDER,
    &CACHE_MISMATCH,
    &DECEPTIVE_NAME,
    &DISGUISED_FILE,
    &EXECUTABLE,
    &SCRIPT,
    &REMOTE_CODE,
    &UNKNOWN_FILE,
    &LFS_POINTER,
];

/// What these rules share.
const FAMILY: Rule = Rule { stage: Stage::Files, level: Severity::Deny, rests_on: RestsOn::ItsFile, ..Rule::NONE };

pub(crate) static UNREADABLE_FILE: Rule = Rule {
    code: "unreadable-file",
    title: "A file that cannot be read",
    why: "A file or folder could not be opened, listed or read to its end. Nothing is known of what it holds, \
          and the digest of the adapter does not cover it. The rule cannot tell a wrong permission from a \
          failing disk.",
    example: "`adapter_model.safetensors` belongs to another user and has mode 0600.",
    accept: "Correct the permissions or fetch the file again, then scan again. If the file is not needed, remove \
             it from the adapter. No waiver can accept bytes that nobody has seen.",
    exception: Exception::Never(UNREAD),
    judges: &[Judge::Scan(Check::Unreadable)],
    ..FAMILY
};

pub(crate) static BEYOND_LIMITS: Rule = Rule {
    code: "beyond-limits",
    title: "Beyond the limits of the scan",
    why: "The scan stops at 10,000 entries, 16 levels of folders, 4 GiB in one file, 64 MiB of text and 4 MiB of \
          JSON settings, so that a hostile folder cannot use up memory or time. Whatever lies beyond was not \
          looked at, and a verdict that ignored this would cover less than it seems to. The rule says nothing \
          about whether the content is bad.",
    example: "A folder holds 40,000 training checkpoints beside the adapter; the scan ends after 10,000 entries.",
    accept: "Publish only the adapter's own files, or point the gate at the folder that holds them. If the large file \
             has to stay, set the rule's level for that path in the policy: what was not read has no digest that a \
             waiver could name. A file that was read in part has one.",
    exception: Exception::WhereRead,
    judges: &[Judge::Scan(Check::BeyondLimits)],
    ..FAMILY
};

pub(crate) static LINK_OUTSIDE: Rule = Rule {
    code: "link-outside",
    title: "A link out of the folder",
    why: "A symbolic link leads out of the adapter's folder, or nowhere; or, beside adapters, out of what is scanned. \
        On another machine it can lead to another file: what is loaded then is not what was scanned, and a loader or \
        an upload may take in private files. The target was not read. Links that stay inside are not reported, nor are \
        those of a snapshot in the hub's cache to blobs of the same repository, which are followed and pinned.",
    example: "`adapter_model.safetensors` links to `/data/models/latest.safetensors`.",
    accept: "Replace links by the files themselves, for instance with `cp -rL`, and scan the copy. What a link leads \
        to was not read, so no waiver can accept it.",
    exception: Exception::Never(UNREAD),
    judges: &[Judge::Scan(Check::LinkOutside)],
    ..FAMILY
};

pub(crate) static SPECIAL_FILE: Rule = Rule {
    code: "special-file",
    title: "A pipe, socket or device",
    why: "A pipe, a socket or a device stands where a file is expected. Opening it can block a loader for ever \
          or yield other bytes at every read, so it has no digest and no meaning in a published adapter. It was \
          not opened.",
    example: "`tokenizer.json` is a named pipe, and the training job that opens it hangs.",
    accept: "Delete it, or replace it by a regular file. There is hardly a reason to accept one; if the folder \
             is also a working directory of some program, gate a clean copy instead of waiving this.",
    exception: Exception::Never(UNREAD),
    judges: &[Judge::Scan(Check::SpecialFile)],
    ..FAMILY
};

pub(crate) static NOT_ENTERED: Rule = Rule {
    code: "not-entered",
    title: "A link beside adapters that was not followed",
    level: Severity::Warn,
    why: "A link outside of every adapter's folder leads out of what is scanned, or nowhere, and its own name is that \
        of a text, a picture or a program. No loader of models goes by such a name. It is told so that nothing is \
        passed over in silence; links by any other name are `link-outside`.",
    example: "`adapters/README.md` links to `../docs/adapters.md`, and only `adapters` is scanned.",
    accept: "Scan from the folder that holds both, or replace the link by the file. Set the level to allow where links \
        to texts are usual.",
    exception: Exception::Never(UNREAD),
    judges: &[Judge::Scan(Check::NotEntered)],
    ..FAMILY
};

pub(crate) static GIT_FOLDER: Rule = Rule {
    code: "git-folder",
    title: "Git's own folder",
    level: Severity::Allow,
    why: "A `.git` folder of a checkout (it holds `HEAD`, `objects` and `refs`) was not entered. Loaders of models do \
        not look there, and its objects are compressed. A `.git` that is anything else is looked at like any folder or \
        file.",
    example: "An adapter was cloned from the hub, and its folder holds `.git`.",
    accept: "Nothing needs to be done. To be sure that nothing else lies in it, scan a copy without it, for instance \
        one made with `git archive`.",
    exception: Exception::Never(UNREAD),
    judges: &[Judge::Scan(Check::GitFolder)],
    ..FAMILY
};

pub(crate) static CACHE_MISMATCH: Rule = Rule {
    code: "cache-mismatch",
    title: "A cached file that is not what it is named after",
    why: "In the cache of the hub's download tools a large file is named by its SHA-256. This one has other content: \
        it was changed after the download, by accident or to put other weights where every tool takes the file for the \
        published one. The finding pins the content that is there.",
    example: "`adapter_model.safetensors` links to the blob `9f86d0…`, whose content has the digest `60303a…`.",
    accept: "Delete the blob and download it again. A waiver would accept the changed file; there is hardly a reason \
        to.",
    judges: &[Judge::Scan(Check::CacheMismatch)],
    ..FAMILY
};

pub(crate) static DECEPTIVE_NAME: Rule = Rule {
    code: "deceptive-name",
    title: "A name that hides characters",
    why: "The name of a file or folder, or the path of what is scanned, holds control characters, invisible characters \
        or characters that turn the direction of text. People then read another name than programs do, and terminals \
        can be made to show false output. Ordinary letters of any script are not reported, so letters that merely look \
        alike are not found.",
    example: "`adapter_` U+202E `snosetefas.py` is displayed as if it ended in `safetensors`.",
    accept: "Rename the file to visible characters and find out who named it. If the name cannot change, waive \
             it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::DeceptiveName)],
    ..FAMILY
};

pub(crate) static DISGUISED_FILE: Rule = Rule {
    code: "disguised-file",
    title: "Content of another kind than the name",
    why: "The first bytes of the file belong to another kind of file than its name promises. Tools that go by \
          the name and loaders that go by the content then treat the same file differently, which is a way past \
          filters. Zip archives under the usual names of torch checkpoints are expected and left to the rules on \
          pickles. Kinds without a recognisable beginning cannot be told apart.",
    example: "`README.md` begins with the bytes of a zip archive; `adapter_model.safetensors` is a pickle.",
    accept: "Give the file its proper name, or remove it, and scan again: the rule for its real kind then \
             applies. Where the name has to stay, waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::DisguisedFile)],
    ..FAMILY
};

pub(crate) static EXECUTABLE: Rule = Rule {
    code: "executable",
    title: "Machine code or bytecode",
    why: "The file is machine code or bytecode, by its first bytes or by its name. No adapter needs one, and a \
          library that searches its folder for plug-ins may load it. What the code does is not analysed.",
    example: "`libkernel.so` beside the weights, or `__pycache__/handler.cpython-311.pyc`.",
    accept: "Remove it. If a runtime needs it, ship it through the channel that your other binaries take, where \
             it is built and signed; until then waive it by digest with an owner and an expiry date.",
    judges: &[Judge::Scan(Check::Executable)],
    ..FAMILY
};

pub(crate) static SCRIPT: Rule = Rule {
    code: "script",
    title: "A program in source",
    level: Severity::Warn,
    why: "A program in source lies in the adapter's folder. Training scripts are common and harmless while \
          nobody runs them, but serving frameworks look for files such as handlers and run them, and so does a \
          loader that was told to trust the folder. The source is not analysed.",
    example: "`handler.py`, which some inference servers import when they start.",
    accept: "Move programs to a source repository and publish the adapter without them. To keep one, read it and \
             waive it by digest, so that the waiver ends when the file changes; or set the level to allow where \
             nothing runs code from adapter folders.",
    judges: &[Judge::Scan(Check::Script)],
    ..FAMILY
};

pub(crate) static REMOTE_CODE: Rule = Rule {
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
    rests_on: RestsOn::Programs,
    judges: &[Judge::Scan(Check::RemoteCode)],
    ..FAMILY
};

pub(crate) static UNKNOWN_FILE: Rule = Rule {
    code: "unknown-file",
    title: "A kind of file that is not looked into",
    level: Severity::Warn,
    why: "The scan has no reader for this kind of file, so nothing is known of its content but its digest. It \
          may hold weights of another format, data or anything else. The rule is no statement that something is \
          wrong.",
    example: "`model.gguf` beside the adapter; `firmware.bin`, which is neither a pickle nor tensors; an `.npz` of \
        numbers.",
    accept: "Remove what is not part of the adapter. For a file that has to stay, waive it by digest with an \
             owner and an expiry date; or set the level to allow if your loaders open nothing but the adapter's \
             own files.",
    judges: &[Judge::Scan(Check::UnknownFile)],
    ..FAMILY
};

pub(crate) static LFS_POINTER: Rule = Rule {
    code: "lfs-pointer",
    title: "A large-file pointer in place of the file",
    why: "The file is the small text that Git's large-file storage leaves where the content was not fetched. The \
          scan has judged the pointer and not the weights, which will arrive later. A pass would say nothing \
          about them.",
    example: "`adapter_model.safetensors` has 134 bytes and begins with `version https://git-lfs`.",
    accept: "Run `git lfs pull` (in CI, check out with large files) and scan again. Do not waive this: the \
             digest would be that of the pointer.",
    judges: &[Judge::Scan(Check::LfsPointer)],
    ..FAMILY
};
