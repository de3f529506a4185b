//! The questions of an audit in the order of the page: what was found, what cannot be told, what was not found.

use lcr_documents::audit::{Answer, Audit, Question};

/// Everything that was asked, `yes` first.
pub(super) fn answered(audit: &Audit) -> Vec<(&str, &Question)> {
    let mut asked: Vec<(&str, &Question)> =
        named(audit).filter(|(_, question)| question.answer != Answer::NotAsked).collect();
    asked.sort_by_key(|(_, question)| match question.answer {
        Answer::Yes => 0,
        Answer::Unresolved => 1,
        Answer::No | Answer::NotAsked => 2,
    });
    asked
}

/// What a deeper run would ask.
pub(super) fn not_asked(audit: &Audit) -> Vec<(&str, &Question)> {
    named(audit).filter(|(_, question)| question.answer == Answer::NotAsked).collect()
}

fn named(audit: &Audit) -> impl Iterator<Item = (&str, &Question)> {
    audit.questions.iter().map(|(name, question)| (name.as_str(), question))
}
