//! Which files a rule's findings rest on: when one of them changes, it was not this that was found.

/// What a finding rests on beside the file that it names and those that the scan says; one that names no file rests on
/// the whole artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestsOn {
    /// Nothing else.
    ItsFile,
    /// The adapter's config and tensors: numbers of an adapter follow from both together.
    Adapter,
    /// What a chat template may stand in.
    Template,
    /// All files of a tokenizer, and of the template that stands among them.
    Tokenizer,
    /// What a setting that makes a loader run code may make it run.
    Programs,
}

impl RestsOn {
    /// Whether a file belongs to it, by its path.
    pub(crate) fn includes(self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match self {
            Self::ItsFile => false,
            Self::Adapter => name == "adapter_config.json" || name == "config.json" || name.ends_with(".safetensors"),
            Self::Template => {
                ends(&[".jinja", ".j2"])
                    || path.contains("chat_template")
                    || ["tokenizer_config.json", "processor_config.json"].contains(&name.as_str())
            }
            Self::Tokenizer => {
                ["token", "vocab", "merges"].iter().any(|part| name.contains(part))
                    || lcr_scan::is_tokenizer_file(&name)
                    || Self::Template.includes(path)
            }
            Self::Programs => ends(&[".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh"]),
        }
    }
}
