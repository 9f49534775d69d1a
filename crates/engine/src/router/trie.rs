//! A compressed prefix tree over bytes: all stored keys that are a prefix of a text are found in
//! one walk whose cost is the length of the text, however many keys there are.
//!
//! Suffixes are found by storing keys reversed and walking the text backwards. Built once, then
//! only read.

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// Prefix tree from byte strings to values.
pub(super) struct Trie<T> {
    nodes: Vec<Node<T>>,
}

struct Node<T> {
    /// The bytes between the parent and this node.
    label: Vec<u8>,
    /// Length of the key that ends at this node.
    depth: usize,
    /// The nearest node above that holds a value.
    above: u32,
    /// First bytes of the children's labels, sorted; the child is at the same place in `children`.
    first_bytes: Vec<u8>,
    children: Vec<u32>,
    value: Option<T>,
}

impl<T> Node<T> {
    fn new(label: &[u8], depth: usize, value: Option<T>) -> Self {
        Self {
            label: label.to_vec(),
            depth,
            above: NONE,
            first_bytes: Vec::new(),
            children: Vec::new(),
            value,
        }
    }

    fn child(&self, first: u8) -> Option<u32> {
        let at = self.first_bytes.binary_search(&first).ok()?;
        self.children.get(at).copied()
    }
}

impl<T> Trie<T> {
    /// Builds the tree; of two equal keys the later value stays.
    pub(super) fn build(entries: impl IntoIterator<Item = (Vec<u8>, T)>) -> Self {
        let mut trie = Self {
            nodes: vec![Node::new(&[], 0, None)],
        };
        for (key, value) in entries {
            trie.insert(&key, value);
        }
        trie.link_values();
        trie
    }

    fn insert(&mut self, key: &[u8], value: T) {
        let mut current = ROOT as usize;
        let mut depth = 0;
        loop {
            let rest = &key[depth..];
            let Some(&first) = rest.first() else {
                self.nodes[current].value = Some(value);
                return;
            };
            let Some(child) = self.nodes[current].child(first) else {
                let leaf = self.push(Node::new(rest, key.len(), Some(value)));
                self.adopt(current, first, leaf);
                return;
            };
            let child = child as usize;
            let label = &self.nodes[child].label;
            let shared = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            depth += shared;
            current = if shared == label.len() {
                child
            } else {
                self.split(current, child, shared)
            };
        }
    }

    /// Puts a node without value between `parent` and `child` after `shared` bytes of the label.
    fn split(&mut self, parent: usize, child: usize, shared: usize) -> usize {
        let tail = self.nodes[child].label.split_off(shared);
        let head = std::mem::replace(&mut self.nodes[child].label, tail);
        let middle_depth = self.nodes[parent].depth + shared;
        let first_of_head = head[0];
        let first_of_tail = self.nodes[child].label[0];
        let middle = self.push(Node::new(&head, middle_depth, None));
        self.adopt(middle as usize, first_of_tail, child as u32);
        if let Ok(at) = self.nodes[parent].first_bytes.binary_search(&first_of_head) {
            self.nodes[parent].children[at] = middle;
        }
        middle as usize
    }

    fn push(&mut self, node: Node<T>) -> u32 {
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    fn adopt(&mut self, parent: usize, first: u8, child: u32) {
        let node = &mut self.nodes[parent];
        let at = node.first_bytes.partition_point(|&byte| byte < first);
        node.first_bytes.insert(at, first);
        node.children.insert(at, child);
    }

    fn link_values(&mut self) {
        let mut pending = vec![(ROOT, NONE)];
        while let Some((id, above)) = pending.pop() {
            let node = &mut self.nodes[id as usize];
            node.above = above;
            let below = if node.value.is_some() { id } else { above };
            pending.extend(node.children.iter().map(|&child| (child, below)));
        }
    }

    /// Values whose key is a prefix of `text`, longest key first, with the key's length.
    pub(super) fn prefixes_of(&self, text: &[u8]) -> Found<'_, T> {
        self.descend(text.len(), |at| text[at])
    }

    /// As [`Self::prefixes_of`], for keys stored reversed and `text` read from its end.
    pub(super) fn suffixes_of(&self, text: &[u8]) -> Found<'_, T> {
        self.descend(text.len(), |at| text[text.len() - 1 - at])
    }

    fn descend(&self, len: usize, byte_at: impl Fn(usize) -> u8) -> Found<'_, T> {
        let mut deepest = NONE;
        let mut current = ROOT;
        loop {
            let node = &self.nodes[current as usize];
            if node.value.is_some() {
                deepest = current;
            }
            if node.depth >= len {
                break;
            }
            let Some(child) = node.child(byte_at(node.depth)) else {
                break;
            };
            let label = &self.nodes[child as usize].label;
            let fits = node.depth + label.len() <= len
                && label
                    .iter()
                    .enumerate()
                    .all(|(offset, &byte)| byte == byte_at(node.depth + offset));
            if !fits {
                break;
            }
            current = child;
        }
        Found {
            trie: self,
            next: deepest,
        }
    }
}

/// The values found by one walk, longest key first.
pub(super) struct Found<'a, T> {
    trie: &'a Trie<T>,
    next: u32,
}

impl<'a, T> Iterator for Found<'a, T> {
    type Item = (usize, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.trie.nodes.get(self.next as usize)?;
        self.next = node.above;
        node.value.as_ref().map(|value| (node.depth, value))
    }
}
