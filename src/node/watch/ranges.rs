//! Ranges of keys, each with those who watch it, found by any key inside.
//!
//! A treap by the beginning of the range, in which each node knows how far the ranges below it
//! reach: finding takes O(log n) and what is found.

use bytes::Bytes;

const NONE: usize = usize::MAX;

/// See [the module](self).
pub(super) struct Ranges<T> {
    nodes: Vec<Option<Node<T>>>,
    free: Vec<usize>,
    root: usize,
    seed: u64,
}

struct Node<T> {
    from: Bytes,
    /// `None`: no end.
    to: Option<Bytes>,
    /// The farthest end of this range and those below.
    reach: Option<Bytes>,
    priority: u64,
    left: usize,
    right: usize,
    members: Vec<T>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Ranges<T> {
        Ranges { nodes: Vec::new(), free: Vec::new(), root: NONE, seed: 0 }
    }
}

/// An end that is none is the farthest.
fn farther<'a>(one: Option<&'a Bytes>, other: Option<&'a Bytes>) -> Option<&'a Bytes> {
    Some(one?.max(other?))
}

fn is_before(key: &[u8], end: Option<&Bytes>) -> bool {
    end.is_none_or(|it| key < &it[..])
}

impl<T> Ranges<T> {
    /// Adds someone to a range; an end of `None` is no end.
    pub(super) fn insert(&mut self, from: Bytes, to: Option<Bytes>, member: T) {
        let mut at = self.root;
        while let Some(node) = self.get_mut(at) {
            match order((&from, to.as_ref()), node) {
                std::cmp::Ordering::Less => at = node.left,
                std::cmp::Ordering::Greater => at = node.right,
                std::cmp::Ordering::Equal => {
                    node.members.push(member);
                    return;
                }
            }
        }
        let (left, right) = self.split(self.root, (&from, to.as_ref()));
        let node = Node {
            reach: to.clone(),
            from,
            to,
            priority: self.draw(),
            left: NONE,
            right: NONE,
            members: vec![member],
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        self.nodes[at] = Some(node);
        let left = self.merge(left, at);
        self.root = self.merge(left, right);
    }

    /// Removes the one of a range that `is` the one; whether it was there.
    pub(super) fn remove(
        &mut self,
        from: &Bytes,
        to: Option<&Bytes>,
        is: impl Fn(&T) -> bool,
    ) -> bool {
        let mut at = self.root;
        while let Some(node) = self.get_mut(at) {
            match order((from, to), node) {
                std::cmp::Ordering::Less => at = node.left,
                std::cmp::Ordering::Greater => at = node.right,
                std::cmp::Ordering::Equal => {
                    let Some(place) = node.members.iter().position(is) else { return false };
                    node.members.swap_remove(place);
                    if node.members.is_empty() {
                        self.root = self.erase(self.root, (from, to));
                    }
                    return true;
                }
            }
        }
        false
    }

    /// Shows the members of every range that has this key; a range that none is left of is gone.
    pub(super) fn at(&mut self, key: &[u8], see: &mut impl FnMut(&mut Vec<T>)) {
        let mut emptied = Vec::new();
        self.visit(self.root, key, see, &mut emptied);
        for (from, to) in emptied {
            self.root = self.erase(self.root, (&from, to.as_ref()));
        }
    }

    /// All members of all ranges.
    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.nodes.into_iter().flatten().flat_map(|it| it.members)
    }

    fn visit(
        &mut self,
        at: usize,
        key: &[u8],
        see: &mut impl FnMut(&mut Vec<T>),
        emptied: &mut Vec<(Bytes, Option<Bytes>)>,
    ) {
        let Some(node) = self.get_mut(at) else { return };
        if !is_before(key, node.reach.as_ref()) {
            return;
        }
        let (left, right) = (node.left, node.right);
        let begins = node.from <= key;
        if begins && is_before(key, node.to.as_ref()) {
            see(&mut node.members);
            if node.members.is_empty() {
                emptied.push((node.from.clone(), node.to.clone()));
            }
        }
        self.visit(left, key, see, emptied);
        if begins {
            self.visit(right, key, see, emptied);
        }
    }

    fn get(&self, at: usize) -> Option<&Node<T>> {
        self.nodes.get(at)?.as_ref()
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Node<T>> {
        self.nodes.get_mut(at)?.as_mut()
    }

    /// Those before a range, and the others.
    fn split(&mut self, at: usize, range: (&Bytes, Option<&Bytes>)) -> (usize, usize) {
        let Some(node) = self.get(at) else { return (NONE, NONE) };
        let (left, right) = (node.left, node.right);
        if order(range, node).is_gt() {
            let (middle, rest) = self.split(right, range);
            self.link(at, left, middle);
            (at, rest)
        } else {
            let (rest, middle) = self.split(left, range);
            self.link(at, middle, right);
            (rest, at)
        }
    }

    /// Of two of which the first is before the second.
    fn merge(&mut self, one: usize, other: usize) -> usize {
        let (Some(first), Some(second)) = (self.get(one), self.get(other)) else {
            return if self.get(one).is_some() { one } else { other };
        };
        if first.priority > second.priority {
            let (left, right) = (first.left, first.right);
            let right = self.merge(right, other);
            self.link(one, left, right);
            one
        } else {
            let (left, right) = (second.left, second.right);
            let left = self.merge(one, left);
            self.link(other, left, right);
            other
        }
    }

    fn erase(&mut self, at: usize, range: (&Bytes, Option<&Bytes>)) -> usize {
        let Some(node) = self.get(at) else { return NONE };
        let (left, right) = (node.left, node.right);
        match order(range, node) {
            std::cmp::Ordering::Less => {
                let left = self.erase(left, range);
                self.link(at, left, right);
                at
            }
            std::cmp::Ordering::Greater => {
                let right = self.erase(right, range);
                self.link(at, left, right);
                at
            }
            std::cmp::Ordering::Equal => {
                self.nodes[at] = None;
                self.free.push(at);
                self.merge(left, right)
            }
        }
    }

    /// Gives a node its children, and reckons anew how far they reach.
    fn link(&mut self, at: usize, left: usize, right: usize) {
        let Some(node) = self.get(at) else { return };
        let mut reach = node.to.as_ref();
        for child in [left, right] {
            if let Some(child) = self.get(child) {
                reach = farther(reach, child.reach.as_ref());
            }
        }
        let reach = reach.cloned();
        if let Some(node) = self.get_mut(at) {
            (node.left, node.right, node.reach) = (left, right, reach);
        }
    }

    /// Numbers without order (Steele, Lea, Flood: `SplitMix64`): they keep the tree low.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.seed;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }
}

fn order<T>(range: (&Bytes, Option<&Bytes>), node: &Node<T>) -> std::cmp::Ordering {
    let (from, to) = range;
    from.cmp(&node.from).then_with(|| match (to, node.to.as_ref()) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => std::cmp::Ordering::Equal,
        (None, _) => std::cmp::Ordering::Greater,
        (_, None) => std::cmp::Ordering::Less,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_finds_the_ranges_that_have_it_and_no_others(
            steps in prop::collection::vec((0_u8..3, 0_u8..20, 0_u8..20), 1..200)
        ) {
            let key = |n: u8| Bytes::copy_from_slice(&[n]);
            let end = |n: u8| (n < 19).then(|| key(n));
            let mut ranges = Ranges::default();
            let mut model: Vec<(u8, u8, usize)> = Vec::new();
            for (n, (kind, from, to)) in steps.into_iter().enumerate() {
                if kind < 2 {
                    ranges.insert(key(from), end(to), n);
                    model.push((from, to, n));
                } else if !model.is_empty() {
                    let (from, to, n) = model.swap_remove(usize::from(from) % model.len());
                    prop_assert!(ranges.remove(&key(from), end(to).as_ref(), |it| *it == n));
                    prop_assert!(!ranges.remove(&key(from), end(to).as_ref(), |it| *it == n));
                }
                for at in 0..21 {
                    let mut found = Vec::new();
                    ranges.at(&[at], &mut |it: &mut Vec<usize>| found.extend_from_slice(it));
                    found.sort_unstable();
                    let all = model.iter().filter(|it| it.0 <= at && (at < it.1 || it.1 == 19));
                    let mut wanted: Vec<_> = all.map(|it| it.2).collect();
                    wanted.sort_unstable();
                    prop_assert_eq!(found, wanted);
                }
            }
            ranges.at(&[10], &mut Vec::clear);
            model.retain(|it| !(it.0 <= 10 && (10 < it.1 || it.1 == 19)));
            prop_assert_eq!(ranges.into_values().count(), model.len());
        }
    }
}
