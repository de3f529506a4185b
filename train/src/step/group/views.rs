//! The views of a group: each holds more of the expert than the one before, by what was injected and not by what was
//! planned.
//!
//! The model may end its thinking before the expert has said what was planned, and the expert may have nothing more to
//! say that does not give the answer away. A view that therefore got no more than the one before it is written again,
//! now with a first chunk that is longer than all that the other got. What remains after that is said by [`Growth`], in
//! the log and on the page.

use lcr_documents::rollout::Said;

use crate::step::rollout::{Rollout, View};

/// Whether the views of a group did what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// There are no two scaffolded views.
    Single,
    /// Each holds more expert tokens than the one before, with other boundaries.
    Grown,
    /// One does not, though the expert had more to say.
    Stalled,
    /// One does not, and the expert cannot say more without the answer.
    NoRoom,
}

/// What the expert said in each scaffolded view, in order.
pub(super) fn said(rollouts: &[Rollout]) -> Vec<Said> {
    rollouts.iter().filter(|rollout| matches!(rollout.view, View::Scaffold(_))).map(Rollout::said).collect()
}

/// Scaffolded views that hold no more than the one before, or have its boundaries.
pub(super) fn stalled(said: &[Said]) -> impl Iterator<Item = usize> {
    (1..said.len()).filter(|view| !said[*view].goes_beyond(&said[*view - 1]))
}

/// Whether two of the views have the same boundaries.
pub(super) fn has_identical(said: &[Said]) -> bool {
    (1..said.len()).any(|later| said[..later].iter().any(|earlier| earlier.boundaries == said[later].boundaries))
}

/// What became of the views, where the expert may say `room` tokens.
pub(super) fn growth(said: &[Said], room: usize) -> Growth {
    if said.len() < 2 {
        return Growth::Single;
    }
    let mut stalled = stalled(said).peekable();
    if stalled.peek().is_none() {
        return Growth::Grown;
    }
    let is_without_room = stalled.any(|view| said[view - 1].tokens >= room);
    if is_without_room { Growth::NoRoom } else { Growth::Stalled }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens and boundaries of each view.
    type Views<'a> = &'a [(usize, &'a [usize])];

    fn said(views: Views) -> Vec<Said> {
        views.iter().map(|(tokens, boundaries)| Said { tokens: *tokens, boundaries: boundaries.to_vec() }).collect()
    }

    #[test]
    fn growth_is_judged_view_by_view() {
        let cases: [(Views, Growth, bool); 7] = [
            (&[], Growth::Single, false),
            (&[(9, &[9])], Growth::Single, false),
            (&[(9, &[9]), (12, &[5, 20])], Growth::Grown, false),
            (&[(9, &[9]), (9, &[5, 20])], Growth::Stalled, false),
            (&[(9, &[9]), (9, &[9])], Growth::Stalled, true),
            // More tokens with the same boundaries cannot be by one chunk, but by several.
            (&[(9, &[9, 30]), (12, &[9, 30])], Growth::Stalled, true),
            (&[(40, &[40]), (40, &[40])], Growth::NoRoom, true),
        ];
        for (views, expected, identical) in cases {
            let said = said(views);
            assert_eq!((growth(&said, 40), has_identical(&said)), (expected, identical), "{views:?}");
        }
    }

    #[test]
    fn each_view_is_held_against_the_one_before() {
        let said = said(&[(5, &[5]), (9, &[9]), (8, &[3, 9]), (20, &[20])]);
        assert_eq!(stalled(&said).collect::<Vec<_>>(), [2]);
    }
}
