//! What was sent and is not answered, with its weight: a map that knows its sum. Sends nothing.

use std::collections::BTreeMap;

/// Items in flight by their key.
#[derive(Debug)]
pub(crate) struct Window<K, V> {
    items: BTreeMap<K, (V, usize)>,
    weight: usize,
}

impl<K, V> Default for Window<K, V> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), weight: 0 }
    }
}

impl<K: Ord, V> Window<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.weight += weight;
        if let Some((_, replaced)) = self.items.insert(key, (value, weight)) {
            self.weight -= replaced;
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (value, weight) = self.items.remove(key)?;
        self.weight -= weight;
        Some(value)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.items.contains_key(key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.items.values().map(|(value, _)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The sum of the weights.
    pub(crate) const fn weight(&self) -> usize {
        self.weight
    }

    /// Forgets all items but these.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&V) -> bool) {
        self.items.retain(|_, (value, _)| is_kept(value));
        self.weight = self.items.values().map(|(_, weight)| weight).sum();
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn the_weight_is_the_sum_of_what_is_inside() {
        let mut window = Window::default();
        window.insert(1, 'a', 10);
        window.insert(2, 'b', 5);
        window.insert(1, 'c', 7);
        assert_eq!((window.len(), window.weight()), (2, 12));
        assert_eq!((window.remove(&1), window.remove(&1), window.weight()), (Some('c'), None, 5));
        window.clear();
        assert_eq!((window.is_empty(), window.weight()), (true, 0));
    }
}
