//! How an answer is cut into the pieces in which it arrives.

use std::ops::Range;

use crate::model::session::Format;

/// Splits audio into pieces of about 400 ms with odd sizes: a small one first, as the real
/// service begins, one of a single sample, and none a whole number of 20 ms frames.
pub(super) fn pieces(bytes: usize, format: Format) -> Vec<Range<usize>> {
    const SAMPLES: [usize; 6] = [397, 3_203, 2_801, 1, 3_499, 3_163];
    let (scale, width) = match format {
        Format::Pcmu => (1, 1),
        Format::Pcm24k => (3, 2),
    };
    let mut pieces = Vec::new();
    let mut at = 0;
    for samples in SAMPLES.iter().cycle() {
        if at >= bytes {
            break;
        }
        let end = (at + samples * scale * width).min(bytes);
        pieces.push(at..end);
        at = end;
    }
    pieces
}

/// The words that belong to piece `number` of `count`, cut at spaces.
pub(super) fn words_between(text: &str, number: usize, count: usize) -> Range<usize> {
    let border = |piece: usize| {
        let near = text.len() * piece / count;
        (near..text.len()).find(|at| text.as_bytes()[*at] == b' ').unwrap_or(text.len())
    };
    let begin = if number == 0 { 0 } else { border(number) };
    let end = if number + 1 == count { text.len() } else { border(number + 1) };
    begin..end.max(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_is_a_whole_number_of_frames() {
        for piece in pieces(100_000, Format::Pcmu).iter().rev().skip(1) {
            assert_ne!(piece.len() % 160, 0);
        }
        let pcm = pieces(100_000, Format::Pcm24k);
        assert!(pcm.iter().all(|piece| piece.len() % 2 == 0));
    }
}
