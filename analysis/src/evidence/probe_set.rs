//! Prompts that belong together, and where a row of a pass stands among them.

/// A set of probes, ready for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSet {
    /// Name of a built-in set, or the file as it was given.
    pub name: String,
    /// The ids of each prompt; none is empty.
    pub prompts: Vec<Vec<u32>>,
    /// The text of each prompt as its author wrote it.
    pub texts: Vec<String>,
    /// Whether the prompts went through a chat template.
    pub chat_template: bool,
    /// Whether the prompts come in pairs, the first of which has what a direction is about and the second has not.
    pub paired: bool,
    /// Whether the base is let to answer them; else only the states at their ends are looked at.
    pub answered: bool,
}

impl ProbeSet {
    /// The same with `most` prompts, taken evenly from the beginning to the end so that every part of the set is in it.
    ///
    /// Prompts that come in pairs (a request to refuse and its harmless twin) stay in pairs where `most` is even.
    #[must_use]
    pub fn sampled(&self, most: usize) -> Self {
        let count = self.prompts.len();
        if count <= most {
            return self.clone();
        }
        let pairs = (most / 2).max(1);
        let of_pairs = count / 2;
        let places: Vec<usize> = if most == 1 {
            vec![0]
        } else {
            (0..pairs)
                .flat_map(|pair| {
                    let at = 2 * (pair * of_pairs / pairs);
                    [at, at + 1]
                })
                .collect()
        };
        let pick = |place: &usize| (self.prompts[*place].clone(), self.texts.get(*place).cloned().unwrap_or_default());
        let (prompts, texts) = places.iter().map(pick).unzip();
        Self {
            name: self.name.clone(),
            prompts,
            texts,
            chat_template: self.chat_template,
            paired: self.paired,
            answered: self.answered,
        }
    }
}

/// A prompt of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PromptId {
    /// Index of the set.
    pub set: usize,
    /// Index of the prompt in the set.
    pub prompt: usize,
}
