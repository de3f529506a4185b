//! Token-by-token generation for a base model or one of its variants: a [`Session`] with one sequence.

use crate::decoder::{BoundAdapter, Decoder, ModelError};
use crate::sampling::{Sampler, SamplingError};
use crate::session::{SequenceId, Session};

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model said so.
    EndOfSequence,
    /// As many tokens as were asked for.
    Length,
    /// The model has no positions left.
    Context,
}

/// Why generation failed.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The forward pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The choice of a token.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Nothing to continue.
    #[error("the prompt has no token. Give some text, or a tokenizer that opens a text with its own token")]
    EmptyPrompt,
}

/// One continuation of a prompt, token by token.
#[derive(Debug)]
pub struct Generation<'a> {
    session: Session<'a>,
    sequence: SequenceId,
    /// Positions of the model.
    positions: usize,
    /// Tokens to read next.
    unread: Vec<u32>,
    stops: Vec<u32>,
    left: usize,
}

impl<'a> Generation<'a> {
    /// At most `limit` tokens after `prompt`, ending at any of `stops` or the config's own end-of-sequence tokens.
    pub fn start(
        decoder: &'a Decoder,
        variant: Option<&'a BoundAdapter>,
        prompt: &[u32],
        stops: &[u32],
        limit: usize,
    ) -> Result<Self, GenerateError> {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        decoder.check_prompts(&[prompt.to_vec()])?;
        let stops = stops.iter().chain(&decoder.config().eos).copied().collect();
        let mut session = Session::new(decoder, variant);
        let sequence = session.open();
        let positions = decoder.config().max_positions;
        Ok(Self { session, sequence, positions, unread: prompt.to_vec(), stops, left: limit })
    }

    /// The next token, or why there is none.
    pub fn advance(&mut self, sampler: &mut Sampler) -> Result<Result<u32, Stop>, GenerateError> {
        if self.left == 0 {
            return Ok(Err(Stop::Length));
        }
        if self.session.len(self.sequence) + self.unread.len() > self.positions {
            return Ok(Err(Stop::Context));
        }
        let logits = self.session.read(&[(self.sequence, &self.unread)])?;
        let token = sampler.sample(logits.first().map_or(&[], Vec::as_slice))?.token;
        self.unread = vec![token];
        self.left -= 1;
        Ok(if self.stops.contains(&token) { Err(Stop::EndOfSequence) } else { Ok(token) })
    }
}
