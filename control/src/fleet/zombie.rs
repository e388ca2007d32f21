//! Whether a node that carries calls is gone, and they must go on elsewhere. Pure.
//!
//! Two of three witnesses must say so. A lost link alone never does: the node may carry its calls
//! well and only not reach us. The carrier's word alone is enough, because it is what the caller
//! hears; so is a new life of the node, which says itself that the old one is over.

/// What the witnesses say of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Its link to us.
    pub link: LinkWord,
    /// Its media.
    pub media: MediaWord,
    /// The carrier.
    pub carrier: CarrierWord,
}

/// What the link says of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkWord {
    /// It is up.
    Up,
    /// It is down, or silent.
    Silent,
    /// Another process of the same name is there: the one before is over.
    Reborn,
}

/// What is seen of a node's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaWord {
    /// Frames move, or whoever knocks where the carrier does is let in.
    Alive,
    /// It has calls, and no frame has moved; or nobody opens where the carrier knocks.
    Dead,
    /// Nobody has looked, or the node is too old to say.
    Unknown,
}

/// What the carrier says of a stream on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarrierWord {
    /// Nothing: it says nothing of streams that go on.
    Nothing,
    /// The stream is over.
    StreamOver,
}

/// What is to be done with the node's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They stay where they are.
    Stay,
    /// They go on elsewhere.
    Move,
}

/// Judges a node.
#[must_use]
pub fn judge(evidence: Evidence) -> Verdict {
    let Evidence { link, media, carrier } = evidence;
    match (carrier, link, media) {
        (CarrierWord::StreamOver, _, _)
        | (CarrierWord::Nothing, LinkWord::Reborn, _)
        | (CarrierWord::Nothing, LinkWord::Silent, MediaWord::Dead) => Verdict::Move,
        (CarrierWord::Nothing, LinkWord::Silent, MediaWord::Alive | MediaWord::Unknown)
        | (CarrierWord::Nothing, LinkWord::Up, _) => Verdict::Stay,
    }
}

/// What two looks at a node's count of frames say, of which the earlier is old enough for every call
/// to have moved some. A count that is smaller is of another life.
#[must_use]
pub fn progress(calls: u32, earlier: Option<u64>, later: Option<u64>) -> MediaWord {
    match (earlier, later) {
        (Some(earlier), Some(later)) if earlier == later && calls > 0 => MediaWord::Dead,
        (Some(_), Some(_)) => MediaWord::Alive,
        (None, _) | (_, None) => MediaWord::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(link: LinkWord, media: MediaWord) -> Verdict {
        judge(Evidence { link, media, carrier: CarrierWord::Nothing })
    }

    #[test]
    fn a_lost_link_alone_moves_nothing() {
        assert_eq!(judged(LinkWord::Silent, MediaWord::Alive), Verdict::Stay);
        assert_eq!(judged(LinkWord::Silent, MediaWord::Unknown), Verdict::Stay);
    }

    #[test]
    fn two_witnesses_of_three_move_the_calls() {
        assert_eq!(judged(LinkWord::Silent, MediaWord::Dead), Verdict::Move);
    }

    #[test]
    fn media_that_stand_still_behind_a_good_link_are_one_witness() {
        assert_eq!(judged(LinkWord::Up, MediaWord::Dead), Verdict::Stay);
        assert_eq!(judged(LinkWord::Up, MediaWord::Alive), Verdict::Stay);
        assert_eq!(judged(LinkWord::Up, MediaWord::Unknown), Verdict::Stay);
    }

    #[test]
    fn a_new_life_of_the_node_is_the_end_of_the_old_one() {
        for media in [MediaWord::Alive, MediaWord::Dead, MediaWord::Unknown] {
            assert_eq!(judged(LinkWord::Reborn, media), Verdict::Move, "{media:?}");
        }
    }

    #[test]
    fn the_carriers_word_alone_is_enough() {
        let carrier = CarrierWord::StreamOver;
        for link in [LinkWord::Up, LinkWord::Silent, LinkWord::Reborn] {
            for media in [MediaWord::Alive, MediaWord::Dead, MediaWord::Unknown] {
                let evidence = Evidence { link, media, carrier };
                assert_eq!(judge(evidence), Verdict::Move, "{evidence:?}");
            }
        }
    }

    #[test]
    fn frames_that_do_not_move_count_only_while_there_are_calls() {
        assert_eq!(progress(3, Some(70), Some(70)), MediaWord::Dead);
        assert_eq!(progress(0, Some(70), Some(70)), MediaWord::Alive);
        assert_eq!(progress(3, Some(70), Some(71)), MediaWord::Alive);
        assert_eq!(progress(3, None, Some(71)), MediaWord::Unknown);
        assert_eq!(progress(3, Some(70), None), MediaWord::Unknown);
    }
}
