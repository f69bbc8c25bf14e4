//! The order in which messages of a chat are shown: a pure function of the set that has arrived, so
//! that all devices with the same set show the same.
//!
//! A message comes after the nearest earlier message of its own device, and after the newest message
//! of each device that it names as seen (`heads`), by number and by message id, as far as they are in
//! the set: one that its device sealed again under a new device id has another number. Among those free to
//! come next, the one with the lowest (time of writing, message id, device) comes first. Heads that
//! form a circle, which no honest device makes, are broken at the lowest.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    content::Head,
    id::{DeviceId, MsgId},
};

use crate::rows::MessageRow;

/// What the order depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The message.
    pub msg: MsgId,
    /// The device that wrote it.
    pub device: DeviceId,
    /// Its number, per device; zero while it is not sealed: such come last.
    pub sequence: u64,
    /// What its writer had seen.
    pub heads: Vec<Head>,
    /// Unix ms by the writer's clock.
    pub created_ms: u64,
}

impl Placed {
    pub(crate) fn of(msg: MsgId, row: &MessageRow) -> Self {
        let MessageRow { device, sequence, heads, created_ms, .. } = row;
        let (device, sequence, created_ms) = (*device, *sequence, *created_ms);
        Self { msg, device, sequence, heads: heads.clone(), created_ms }
    }
}

type Rank = (bool, u64, MsgId, DeviceId, usize);

/// Indices of the messages in the order in which they are shown.
#[must_use]
pub fn arrange(messages: &[Placed]) -> Vec<usize> {
    let mut places: BTreeMap<(DeviceId, u64), usize> = BTreeMap::new();
    // Two messages with one number, which no honest device makes: the lower id stands for both.
    let mut by_id: Vec<(usize, &Placed)> = messages.iter().enumerate().collect();
    by_id.sort_by_key(|(_, message)| message.msg);
    for (index, message) in by_id {
        places.entry((message.device, message.sequence)).or_insert(index);
    }
    let mut by_msg: BTreeMap<MsgId, Vec<usize>> = BTreeMap::new();
    for (index, message) in messages.iter().enumerate() {
        by_msg.entry(message.msg).or_default().push(index);
    }
    let newest_at_most = |device: DeviceId, sequence: u64| {
        places.range((device, 1)..=(device, sequence)).next_back().map(|(_, index)| *index)
    };
    let mut waits: Vec<usize> = vec![0; messages.len()];
    let mut followers: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (index, (message, wait)) in messages.iter().zip(&mut waits).enumerate() {
        let own = message.sequence.checked_sub(1).filter(|before| *before > 0);
        let before = own
            .into_iter()
            .map(|sequence| (message.device, sequence))
            .chain(message.heads.iter().map(|head| (head.device, head.sequence)))
            .filter(|(_, sequence)| *sequence > 0)
            .filter_map(|(device, sequence)| newest_at_most(device, sequence))
            .chain(
                message.heads.iter().filter_map(|head| by_msg.get(&head.msg)).flatten().copied(),
            );
        for before in before.filter(|before| *before != index) {
            if followers.entry(before).or_default().insert(index) {
                *wait += 1;
            }
        }
    }
    let rank = |index: usize| -> Option<Rank> {
        let m = messages.get(index)?;
        Some((m.sequence == 0, m.created_ms, m.msg, m.device, index))
    };
    take_in_turn(&waits, &followers, rank)
}

fn take_in_turn(
    waits: &[usize],
    followers: &BTreeMap<usize, BTreeSet<usize>>,
    rank: impl Fn(usize) -> Option<Rank>,
) -> Vec<usize> {
    let mut waits: Vec<usize> = waits.to_vec();
    let mut left: BTreeSet<Rank> = (0..waits.len()).filter_map(&rank).collect();
    let mut free: BTreeSet<Rank> =
        left.iter().filter(|(.., index)| waits.get(*index) == Some(&0)).copied().collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(next) = free.pop_first().or_else(|| left.first().copied()) {
        if !left.remove(&next) {
            continue;
        }
        let (.., index) = next;
        order.push(index);
        for follower in followers.get(&index).into_iter().flatten() {
            if let Some(wait) = waits.get_mut(*follower) {
                *wait = wait.saturating_sub(1);
                if *wait == 0
                    && let Some(rank) = rank(*follower)
                    && left.contains(&rank)
                {
                    free.insert(rank);
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_protocol::{
        content::Head,
        id::{DeviceId, MsgId},
    };

    use super::{Placed, arrange};

    fn placed(device: u8, sequence: u64, created_ms: u64, heads: &[(u8, u64)]) -> Placed {
        let mut msg = [device; 16];
        msg[0] = u8::try_from(sequence).unwrap();
        Placed {
            msg: MsgId(msg),
            device: DeviceId([device; 16]),
            sequence,
            heads: heads
                .iter()
                .map(|(d, s)| Head {
                    device: DeviceId([*d; 16]),
                    sequence: *s,
                    msg: placed(*d, *s, 0, &[]).msg,
                })
                .collect(),
            created_ms,
        }
    }

    #[test]
    fn an_answer_never_stands_above_its_question_whatever_the_clocks_say() {
        let question = placed(1, 1, 9_000, &[]);
        let answer = placed(2, 1, 10, &[(1, 1)]);
        assert_eq!(arrange(&[answer, question]), [1, 0]);
    }

    #[test]
    fn an_answer_finds_a_question_that_was_sealed_again_under_another_device_id() {
        let mut question = placed(1, 1, 9_000, &[]);
        let answer = placed(2, 1, 10, &[(1, 1)]);
        question.device = DeviceId([9; 16]);
        question.sequence = 7;
        assert_eq!(arrange(&[answer, question]), [1, 0]);
    }

    #[test]
    fn a_circle_of_heads_loses_nothing() {
        let one = placed(1, 1, 5, &[(2, 1)]);
        let two = placed(2, 1, 4, &[(1, 1)]);
        assert_eq!(arrange(&[one, two]), [1, 0]);
    }

    fn history() -> impl Strategy<Value = Vec<Placed>> {
        proptest::collection::vec((1u8..4, 0u64..50, 1u8..4, 0u64..6), 1..24).prop_map(|steps| {
            let mut next = [1u64; 5];
            let mut all = Vec::new();
            for (device, created, seen, seen_sequence) in steps {
                let sequence = next[usize::from(device)];
                next[usize::from(device)] += 1;
                all.push(placed(device, sequence, created, &[(seen, seen_sequence)]));
            }
            all
        })
    }

    proptest! {
        #[test]
        fn any_arrival_order_gives_the_same_view(
            (all, shuffled) in history().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
        ) {
            let view = |set: &[Placed]| -> Vec<Placed> {
                arrange(set).into_iter().map(|i| set[i].clone()).collect()
            };
            let shown = view(&all);
            prop_assert_eq!(&shown, &view(&shuffled));
            prop_assert_eq!(shown.len(), all.len());
        }

        #[test]
        fn one_device_is_always_shown_in_its_own_order(all in history()) {
            // Without heads that point forward there are no circles.
            let all: Vec<_> = all.into_iter().map(|m| Placed { heads: Vec::new(), ..m }).collect();
            let order = arrange(&all);
            for (at, index) in order.iter().enumerate() {
                for later in &order[at + 1..] {
                    if all[*later].device == all[*index].device {
                        prop_assert!(all[*later].sequence > all[*index].sequence);
                    }
                }
            }
        }
    }
}
