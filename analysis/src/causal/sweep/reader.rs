//! Many prompts that differ from one in an insert, read by one model: how far each turns what the model says next.
//!
//! What all of them begin with is read once and forked, so an insert costs what follows it and no more.

use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};
use lcr_model::session::{SequenceId, Session};
use rayon::prelude::*;

use super::ahead::{Ahead, likeliest, softmax};

/// Sequences of a pass: with more, nothing is won, for a pass is then bound by arithmetic.
const TOGETHER: usize = 64;
/// Bytes of probabilities that exist at a time.
const BYTES: usize = 96 << 20;

/// How far each prompt of `inserted` turns the answer of a model from that to `plain`, in nats; `branches` first tokens
/// are followed to the second. `report` is told of every prompt that was read.
///
/// # Errors
/// As [`Session::read`].
pub(super) fn turns(
    (decoder, variant): (&Decoder, Option<&BoundAdapter>),
    plain: &[u32],
    inserted: &[Vec<u32>],
    branches: usize,
    report: &mut dyn FnMut(usize),
) -> Result<Vec<f64>, ModelError> {
    let mut session = Session::new(decoder, variant);
    let shared = shared_length(plain, inserted);
    let root = session.open();
    if shared > 0 {
        session.read(&[(root, &plain[..shared])])?;
    }
    let without = ahead(&mut session, root, &[&plain[shared..]], &Branches::Likeliest(branches))?;
    let Some(without) = without.first() else { return Ok(Vec::new()) };
    let firsts = Branches::These(without.second.iter().map(|(token, _)| *token).collect());
    let together = (BYTES / (4 * (1 + branches) * decoder.config().vocab_size.max(1))).clamp(1, TOGETHER);
    let mut found = Vec::with_capacity(inserted.len());
    for chunk in inserted.chunks(together) {
        let rests: Vec<&[u32]> = chunk.iter().map(|tokens| &tokens[shared..]).collect();
        let with = ahead(&mut session, root, &rests, &firsts)?;
        found.par_extend(with.par_iter().map(|with| without.divergence(with)));
        report(chunk.len());
    }
    Ok(found)
}

/// Which first tokens are followed to the second.
enum Branches {
    /// So many, those that the model finds likeliest.
    Likeliest(usize),
    /// These.
    These(Vec<u32>),
}

/// Reads each of `rests` behind what `root` has read, and looks ahead.
fn ahead(
    session: &mut Session,
    root: SequenceId,
    rests: &[&[u32]],
    branches: &Branches,
) -> Result<Vec<Ahead>, ModelError> {
    let ids: Vec<SequenceId> = rests.iter().map(|_| session.fork(root)).collect();
    let requests: Vec<(SequenceId, &[u32])> = ids.iter().copied().zip(rests.iter().copied()).collect();
    let mut firsts = session.read(&requests)?;
    firsts.par_iter_mut().for_each(|row| softmax(row));
    let followed: Vec<Vec<u32>> = match branches {
        Branches::Likeliest(count) => firsts.iter().map(|row| likeliest(row, *count)).collect(),
        Branches::These(tokens) => vec![tokens.clone(); firsts.len()],
    };
    let forks: Vec<(SequenceId, u32)> = ids
        .iter()
        .zip(&followed)
        .flat_map(|(id, tokens)| tokens.iter().map(|token| (*id, *token)))
        .map(|(id, token)| (session.fork(id), token))
        .collect();
    let requests: Vec<(SequenceId, &[u32])> =
        forks.iter().map(|(id, token)| (*id, std::slice::from_ref(token))).collect();
    let mut seconds = session.read(&requests)?;
    seconds.par_iter_mut().for_each(|row| softmax(row));
    ids.iter().chain(forks.iter().map(|(id, _)| id)).for_each(|id| session.close(*id));
    let mut seconds = forks.iter().map(|(_, token)| *token).zip(seconds);
    let outlook =
        |(first, tokens): (Vec<f32>, &Vec<u32>)| Ahead { first, second: seconds.by_ref().take(tokens.len()).collect() };
    Ok(firsts.into_iter().zip(&followed).map(outlook).collect())
}

/// Tokens that all begin with, at least one of each left over.
fn shared_length(plain: &[u32], inserted: &[Vec<u32>]) -> usize {
    let common = |tokens: &Vec<u32>| plain.iter().zip(tokens).take_while(|(left, right)| left == right).count();
    let most = inserted.iter().map(Vec::len).chain([plain.len()]).min().unwrap_or(0).saturating_sub(1);
    inserted.iter().map(common).min().unwrap_or(0).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_begin_with_leaves_a_token_to_read() {
        assert_eq!(shared_length(&[1, 2, 3, 4], &[vec![1, 2, 9, 3, 4], vec![1, 2, 3]]), 2);
        assert_eq!(shared_length(&[1, 2], &[vec![1, 2, 3]]), 1);
        assert_eq!(shared_length(&[1, 2], &[vec![3]]), 0);
    }
}
