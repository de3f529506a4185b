//! What an adapter changes, by the names of its tensors.

use std::collections::BTreeMap;

use lcr_formats::adapter::{Adapter, is_classification_head};

use crate::check::{Check, Observation};
use crate::tensor_kind::TensorKind;

pub(super) fn observe(adapter: &Adapter, name: &str, found: &mut Vec<Observation>) {
    let place = |path: &str| crate::json::shown(path);
    let module = |tensor: &str| tensor.rsplit_once('.').map_or(String::new(), |(module, _)| module.to_owned());
    for (tensor, whole) in adapter.modules_to_save.iter().filter(|(tensor, _)| !is_classification_head(&module(tensor)))
    {
        let announced = if whole.declared { "announced in the config" } else { "not announced in the config" };
        let message = format!(
            "replaces the base's tensor {:?} whole ({announced}): its size is not bounded by a rank, and without the \
             base nobody sees what changed",
            whole.shape
        );
        found.push(Observation::new(Check::WholeTensor, name, message).at(place(tensor)));
    }
    let modules = adapter.modules.iter().map(|(path, module)| (path.as_str(), module.outputs));
    let embeddings = adapter.embeddings.iter().map(|(path, embedding)| (path.as_str(), embedding.rows));
    let whole = adapter.modules_to_save.iter().map(|(tensor, whole)| {
        let rows = whole.shape.first().copied().unwrap_or(0);
        (tensor.strip_suffix(".weight").unwrap_or(tensor), rows)
    });
    let paths: BTreeMap<&str, usize> = modules.chain(embeddings).chain(whole).collect();
    for (path, rows) in paths {
        match TensorKind::of_changed(path, rows) {
            TensorKind::Head | TensorKind::Embedding => {
                let message = "changes what tokens look up or how likely they are said, directly and for every text";
                found.push(Observation::new(Check::EmbeddingChange, name, message).at(place(path)));
            }
            TensorKind::Classifier => {
                let message = "a head over classes, spans or rewards: it judges texts and says none, a language model \
                    has no such module, and without the base's class nobody sees what it was before";
                found.push(Observation::new(Check::ClassificationHead, name, message).at(place(path)));
            }
            TensorKind::Router => {
                let message = "changes which expert a token is sent to: a trigger can be steered to one expert";
                found.push(Observation::new(Check::RouterChange, name, message).at(place(path)));
            }
            _ => {}
        }
    }
}
