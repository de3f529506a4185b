//! Token-by-token generation with a cache of keys and values, for a base model or one of its variants.

use crate::decoder::{Cache, Decoder, ModelError, Pass, Sequence, Taps, Variant, with_values};
use crate::sampling::{Sampler, SamplingError};

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
    decoder: &'a Decoder,
    variant: Option<&'a Variant>,
    cache: Cache,
    /// Tokens whose keys and values are in the cache.
    seen: usize,
    /// Tokens to read next.
    unread: Vec<u32>,
    stops: Vec<u32>,
    left: usize,
}

impl<'a> Generation<'a> {
    /// At most `limit` tokens after `prompt`, ending at any of `stops` or the config's own end-of-sequence tokens.
    pub fn start(
        decoder: &'a Decoder,
        variant: Option<&'a Variant>,
        prompt: &[u32],
        stops: &[u32],
        limit: usize,
    ) -> Result<Self, GenerateError> {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        decoder.check_prompts(&[prompt.to_vec()])?;
        let stops = stops.iter().chain(&decoder.config().eos).copied().collect();
        Ok(Self { decoder, variant, cache: Cache::default(), seen: 0, unread: prompt.to_vec(), stops, left: limit })
    }

    /// The next token, or why there is none.
    pub fn advance(&mut self, sampler: &mut Sampler) -> Result<Result<u32, Stop>, GenerateError> {
        if self.left == 0 {
            return Ok(Err(Stop::Length));
        }
        if self.seen + self.unread.len() > self.decoder.config().max_positions {
            return Ok(Err(Stop::Context));
        }
        let logits = self.read()?;
        let token = sampler.sample(&logits)?.token;
        self.unread = vec![token];
        self.left -= 1;
        Ok(if self.stops.contains(&token) { Err(Stop::EndOfSequence) } else { Ok(token) })
    }

    /// Runs the unread tokens through all layers and returns the last one's logits.
    fn read(&mut self) -> Result<Vec<f32>, ModelError> {
        let tokens = std::mem::take(&mut self.unread);
        let count = tokens.len();
        let positions: Vec<usize> = (self.seen..self.seen + count).collect();
        let sequence = Sequence { queries: 0..count, keys: 0..self.seen + count };
        let pass = Pass::new(self.decoder.config(), vec![sequence], &positions, vec![self.variant]);
        let mut stream = self.decoder.embed(&tokens, &positions, &pass.variants)?;
        let mut taps = Taps::default();
        for layer in self.decoder.layers() {
            stream = layer.forward(&stream, &pass, Some(&mut self.cache), &mut taps)?;
        }
        self.seen += count;
        let last = stream.map(|rows| rows.narrow(0, count - 1, 1))?;
        let logits = self.decoder.logits(&last, &pass.variants)?;
        let host = logits.model(0).to_device(&candle_core::Device::Cpu)?;
        Ok(with_values(&host, <[f32]>::to_vec)?)
    }
}
