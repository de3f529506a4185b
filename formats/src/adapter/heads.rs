//! Heads that classify texts or score them: part of an adapter for a classifier, and of no language model.

/// Modules of transformers' and TRL's classes that stand where a language model has its head over tokens.
const HEADS: [&str; 7] =
    ["classification_head", "classifier", "qa_outputs", "reward_head", "score", "v_head", "value_head"];

/// Whether a module's path is that of a head over classes, spans or rewards, or of a part of one.
///
/// Such a head stands beside the model's body; a module of that name inside a block is another thing.
pub fn is_classification_head(path: &str) -> bool {
    path.split('.').next().is_some_and(|first| HEADS.contains(&first))
}

#[cfg(test)]
mod tests {
    use super::is_classification_head;

    #[test]
    fn heads_stand_beside_the_body() {
        for path in ["score", "classifier", "classifier.dense", "classifier.out_proj", "qa_outputs", "v_head.summary"] {
            assert!(is_classification_head(path), "{path}");
        }
        for path in
            ["lm_head", "model.embed_tokens", "model.layers.0.mlp.score", "model.score", "scores", "", "embed_out"]
        {
            assert!(!is_classification_head(path), "{path}");
        }
    }
}
