//! The order in which blocks of instructions are laid out: a weak topological order (F. Bourdoncle, Efficient chaotic
//! iteration strategies with widenings, 1993).
//!
//! A block stands behind all blocks that lead to it, but for the edges back to a loop's head; the blocks of a loop stand
//! together, the head first, and before what follows the loop. When of the diverged lanes of a warp those with the lowest
//! instruction run first, they therefore meet again where all their paths do, and lanes that leave a loop wait for those
//! still in it.

/// The reachable ones of the blocks with these successors, from block 0 on, in their order.
pub(super) fn order(successors: &[Vec<usize>]) -> Vec<usize> {
    let mut order = Vec::with_capacity(successors.len());
    if successors.is_empty() {
        return order;
    }
    let mut search = Search {
        successors,
        level: vec![0; successors.len()],
        number: vec![UNSEEN; successors.len()],
        lowest: vec![0; successors.len()],
        counter: 0,
    };
    let mut levels = 0;
    // What is left to lay out, last first: a loop's head, then what can be reached from it inside.
    let mut work = vec![Work { head: None, entries: vec![0], level: 0 }];
    while let Some(Work { head, entries, level }) = work.pop() {
        order.extend(head);
        // The first component found is the last of the order, as what is pushed first is popped last.
        for component in search.components(entries, level) {
            let (head, inner) = component.split_first().expect("a component has a block");
            let mut entries = Vec::new();
            if !inner.is_empty() {
                levels += 1;
                entries.clone_from(&successors[*head]);
                search.reopen(inner, levels);
            }
            work.push(Work { head: Some(*head), entries, level: levels });
        }
    }
    order
}

struct Work {
    head: Option<usize>,
    entries: Vec<usize>,
    level: usize,
}

const UNSEEN: usize = usize::MAX;
const DONE: usize = usize::MAX - 1;

/// A search for strongly connected components (R. Tarjan, 1972, without recursion).
struct Search<'a> {
    successors: &'a [Vec<usize>],
    /// In which loop a block is searched: edges to blocks of other loops are not followed.
    level: Vec<usize>,
    number: Vec<usize>,
    lowest: Vec<usize>,
    counter: usize,
}

impl Search<'_> {
    /// Readies the inner blocks of a loop for a search of their own.
    fn reopen(&mut self, blocks: &[usize], level: usize) {
        for block in blocks {
            self.level[*block] = level;
            self.number[*block] = UNSEEN;
        }
    }

    /// Components of the blocks of a level that can be reached from the entries, each with the block first reached at its
    /// start; a component stands before those that lead to it.
    fn components(&mut self, mut entries: Vec<usize>, level: usize) -> Vec<Vec<usize>> {
        let mut found = Vec::new();
        entries.sort_unstable();
        // What stands later in the text is visited first: the order is then as close to the text as it can be.
        while let Some(root) = entries.pop() {
            if self.level[root] == level && self.number[root] == UNSEEN {
                self.visit(root, level, &mut found);
            }
        }
        found
    }

    fn visit(&mut self, root: usize, level: usize, found: &mut Vec<Vec<usize>>) {
        let mut open = Vec::new();
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut enter = Some(root);
        loop {
            if let Some(block) = enter.take() {
                self.number[block] = self.counter;
                self.lowest[block] = self.counter;
                self.counter += 1;
                open.push(block);
                let mut next = self.successors[block].clone();
                next.sort_unstable();
                path.push((block, next));
            }
            let Some((block, left)) = path.last_mut() else { return };
            let block = *block;
            if let Some(next) = left.pop() {
                if self.level[next] == level {
                    match self.number[next] {
                        UNSEEN => enter = Some(next),
                        DONE => {}
                        seen => self.lowest[block] = self.lowest[block].min(seen),
                    }
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                self.lowest[*parent] = self.lowest[*parent].min(self.lowest[block]);
            }
            if self.lowest[block] == self.number[block] {
                let from = open.iter().rposition(|other| *other == block).expect("it is open until here");
                let component = open.split_off(from);
                for member in &component {
                    self.number[*member] = DONE;
                }
                found.push(component);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::order;

    #[test]
    fn a_diamond_joins_after_both_arms() {
        assert_eq!(order(&[vec![1, 2], vec![3], vec![3], vec![]]), [0, 1, 2, 3]);
        // The same with the join before the arms in the text.
        assert_eq!(order(&[vec![2, 3], vec![], vec![1], vec![1]]), [0, 2, 3, 1]);
    }

    #[test]
    fn a_loop_stands_together_before_what_follows_it() {
        // 0 → 1; 1 → 2 | 4; 2 → 3 | 1; 3 → 1; 4 is behind, though an exit (5) of the loop's middle stands in the text before.
        assert_eq!(order(&[vec![2], vec![], vec![3, 1], vec![4, 2], vec![2]]), [0, 2, 3, 4, 1]);
    }

    #[test]
    fn loops_nest() {
        // 1 heads the outer loop, 2 the inner one; 4 is behind both.
        assert_eq!(order(&[vec![1], vec![2, 4], vec![3], vec![2, 1], vec![]]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn unreachable_blocks_are_left_out() {
        assert_eq!(order(&[vec![2], vec![2], vec![]]), [0, 2]);
    }

    #[test]
    fn a_very_long_chain_needs_no_deep_stack() {
        let chain: Vec<Vec<usize>> = (1..=200_000).map(|next| vec![next % 200_000]).collect();
        assert_eq!(order(&chain), (0..200_000).collect::<Vec<_>>());
    }

    /// Whether `to` can be reached from `from` without `without`.
    fn reaches(graph: &[Vec<usize>], from: usize, to: usize, without: &[usize]) -> bool {
        let mut seen = vec![false; graph.len()];
        let mut left = vec![from];
        while let Some(block) = left.pop() {
            if block == to {
                return true;
            }
            if seen[block] || without.contains(&block) {
                continue;
            }
            seen[block] = true;
            left.extend(&graph[block]);
        }
        false
    }

    proptest! {
        /// Every reachable block stands once; an edge that leads back leads to a block from which its source can be reached
        /// again (a loop); what is between the two is all of that loop.
        #[test]
        fn edges_lead_forward_but_for_loops(
            graph in (1usize..12).prop_flat_map(|n| {
                prop::collection::vec(prop::collection::vec(0..n, 0..3), n..=n)
            })
        ) {
            let found = order(&graph);
            let mut place = vec![None; graph.len()];
            for (at, block) in found.iter().enumerate() {
                prop_assert_eq!(place[*block].replace(at), None);
            }
            for block in 0..graph.len() {
                prop_assert_eq!(place[block].is_some(), reaches(&graph, 0, block, &[]));
                let Some(at) = place[block] else { continue };
                for next in &graph[block] {
                    let to = place[*next].expect("what a reachable block leads to is reachable");
                    if to > at {
                        continue;
                    }
                    for between in &found[to..=at] {
                        prop_assert!(reaches(&graph, *next, *between, &[]));
                        prop_assert!(reaches(&graph, *between, *next, &[]));
                    }
                }
            }
        }
    }
}
