//! The simulated DHT: what was published, and what a look-up finds. It can be slow and can fail;
//! it cannot make anything up, since descriptors prove themselves.

use std::collections::BTreeMap;

use tidings_protocol::descriptor::{CheckedDescriptor, Descriptor};
use tidings_protocol::id::NodeId;

/// All that was published.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    records: BTreeMap<NodeId, Vec<Descriptor>>,
}

impl Directory {
    /// Stores a descriptor; older ones stay, as they do on slow replicas.
    pub fn publish(&mut self, node: NodeId, descriptor: Descriptor) {
        let known = self.records.entry(node).or_default();
        known.push(descriptor);
        if known.len() > 3 {
            known.remove(0);
        }
    }

    /// What a look-up returns at `now_ms` by the asker's clock: checked as the shell checks it.
    #[must_use]
    pub fn find(&self, node: &NodeId, now_ms: u64) -> Vec<(Descriptor, CheckedDescriptor)> {
        let known = self.records.get(node).into_iter().flatten();
        known.filter_map(|descriptor| Descriptor::read(&descriptor.encode(), now_ms).ok()).collect()
    }
}
