//! Bodies of commands and replies that are sent compressed: `{len u32}`, then one LZ4 block of so many bytes. What is fixed and what follows are compressed together.

use crate::frame::{FrameError, MAX_BODY, MAX_BULK};

/// Less is not worth a look: it fits into two packets of a network as it is.
pub const LEAST: usize = 2 << 10;
/// Longest body that is compressed: the arguments and bytes of one command.
pub const MOST: usize = MAX_BULK + LEAST;
const HEAD: usize = size_of::<u32>();
/// Most bytes that one byte of an LZ4 block stands for.
const RATIO: usize = 255;

/// Behind so many attempts in a row that saved too little, one in 256 is made.
const MOST_FAILURES: u32 = 9;

/// When it is tried: what does not get smaller is tried ever more rarely.
#[derive(Debug, Default)]
pub struct Attempts {
    failures: u32,
    pause: u32,
}

impl Attempts {
    /// Whether to try it with the next body.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_due
    }

    /// It has been tried.
    pub fn note(&mut self, saves: bool) {
        self.failures = match saves {
            true => 0,
            false => (self.failures + 1).min(MOST_FAILURES),
        };
        self.pause = ((1 << self.failures) >> 1_u32).max(1) - 1;
    }
}

/// A body, if a quarter of it is saved so.
pub fn compress(args: &[u8], segments: &[&[u8]]) -> Option<Vec<u8>> {
    let len = args.len() + segments.iter().map(|part| part.len()).sum::<usize>();
    if !(LEAST..=MOST).contains(&len) {
        return None;
    }
    let mut whole = Vec::with_capacity(len);
    whole.extend_from_slice(args);
    segments
        .iter()
        .for_each(|part| whole.extend_from_slice(part));
    let mut packed = vec![0; HEAD + lz4_flex::block::get_maximum_output_size(len)];
    packed[..HEAD].copy_from_slice(&(len as u32).to_le_bytes());
    let block = lz4_flex::block::compress_into(&whole, &mut packed[HEAD..]).ok()?;
    packed.truncate(HEAD + block);
    (packed.len() <= len / 4 * 3).then_some(packed)
}

/// The body as it was. Takes no more memory than the bytes that came can stand for, and at most [`MAX_BODY`].
pub fn decompress(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let damaged = || FrameError::Compressed { bytes: body.len() };
    let (head, block) = body.split_first_chunk::<HEAD>().ok_or_else(damaged)?;
    let len = u32::from_le_bytes(*head) as usize;
    if len > MAX_BODY as usize || len > block.len().saturating_mul(RATIO) {
        return Err(damaged());
    }
    let mut whole = vec![0; len];
    match lz4_flex::block::decompress_into(block, &mut whole) {
        Ok(count) if count == len => Ok(whole),
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes as a picture has them: runs, and values near each other.
    fn picture(len: usize, seed: u8) -> Vec<u8> {
        (0..len)
            .map(|at| match at / 160 % 3 {
                0 => 0,
                _ => (at / 40) as u8 ^ seed,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            len in 0..40_000_usize,
            seed: u8,
            noise in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let picture = picture(len, seed);
            let whole = [&picture[..], &noise].concat();
            if let Some(packed) = compress(&picture, &[&noise]) {
                prop_assert!(packed.len() <= whole.len() / 4 * 3);
                prop_assert_eq!(decompress(&packed).unwrap(), whole);
            }
        }

        #[test]
        fn any_bytes_are_a_body_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), len in 0..80_000_u32) {
            let _ = decompress(&bytes);
            // With a length that passes.
            let likely = [&len.to_le_bytes()[..], &bytes].concat();
            if let Ok(whole) = decompress(&likely) {
                prop_assert_eq!(whole.len(), len as usize);
            }
        }

        #[test]
        fn one_damaged_byte_gives_no_more_than_was_stated(at in 0..400_usize, to: u8) {
            let mut packed = compress(&[], &[&picture(19_200, 7)]).unwrap();
            let at = HEAD + at % (packed.len() - HEAD);
            packed[at] = to;
            if let Ok(whole) = decompress(&packed) {
                prop_assert_eq!(whole.len(), 19_200);
            }
        }
    }

    /// How many of so many bodies are tried, none of which gets smaller.
    fn tried(attempts: &mut Attempts, bodies: usize) -> usize {
        let mut tried = 0;
        for _ in 0..bodies {
            if attempts.is_due() {
                tried += 1;
                attempts.note(false);
            }
        }
        tried
    }

    #[test]
    fn what_does_not_get_smaller_is_given_up_for_longer_and_longer() {
        let mut attempts = Attempts::default();
        assert_eq!(tried(&mut attempts, 1), 1);
        assert_eq!(tried(&mut attempts, 1), 1, "one failure is no rule");
        assert_eq!(tried(&mut attempts, 254), 7);
        assert_eq!(tried(&mut attempts, 25_600), 100);
        // One that does is as good as a fresh start.
        while !attempts.is_due() {}
        attempts.note(true);
        assert!(attempts.is_due());
    }

    #[test]
    fn only_what_gets_smaller_is_compressed() {
        let zeros = vec![0; MOST];
        assert!(compress(&[], &[&zeros]).unwrap().len() < MOST / 200);
        assert_eq!(compress(&[0], &[&zeros]), None, "too long");
        assert_eq!(compress(&zeros[..LEAST - 1], &[]), None, "too short");
        let mut random = 1_u64;
        let noise: Vec<u8> = (0..20_000)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        assert_eq!(compress(&[], &[&noise]), None);
    }

    #[test]
    fn a_length_that_the_bytes_cannot_stand_for_is_refused_before_it_takes_memory() {
        let packed = compress(&[], &[&vec![0; 1 << 20]]).unwrap();
        for len in [
            0_u32,
            (1 << 20) - 1,
            (1 << 20) + 1,
            8 << 20,
            MAX_BODY,
            MAX_BODY + 1,
            u32::MAX,
        ] {
            let lying = [&len.to_le_bytes()[..], &packed[HEAD..]].concat();
            assert!(decompress(&lying).is_err(), "{len}");
        }
        for cut in 0..HEAD {
            assert!(decompress(&packed[..cut]).is_err());
        }
        assert!(decompress(&packed[..packed.len() - 1]).is_err());
        assert_eq!(decompress(&packed).unwrap(), vec![0; 1 << 20]);
    }
}
