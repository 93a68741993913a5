//! Where the boxes of a drawing stand: callers above, each proxy below what leads to it, the label of an arrow in a row
//! between, so that nothing lies over anything.

/// A size or a place, in the drawing's units (pixels at its natural size).
pub(super) type Size = f64;

/// Space between two boxes of a row, and between two rows.
const BESIDE: Size = 26.0;
const BELOW: Size = 24.0;

/// One thing in a row.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// What it is.
    pub(super) what: What,
    /// Its row.
    pub(super) row: usize,
    /// Width and height.
    pub(super) size: (Size, Size),
    /// The middle of its upper edge.
    pub(super) at: (Size, Size),
    /// Where its row begins and ends; an arrow bends between rows only.
    pub(super) band: (Size, Size),
}

/// What stands in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A node, by its index.
    Node(usize),
    /// The label of an arrow, by the arrow's index.
    Label(usize),
    /// Room for an arrow that passes by.
    Passage,
}

/// A finished drawing.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Everything that has a place.
    pub(super) slots: Vec<Slot>,
    /// For each arrow: the slots that it goes through, from its beginning to its end.
    pub(super) chains: Vec<Vec<usize>>,
    /// Width and height.
    pub(super) size: (Size, Size),
}

/// Places nodes of these sizes and arrows (from, to, size of the label).
pub(super) fn layout(nodes: &[(Size, Size)], arrows: &[(usize, usize, (Size, Size))]) -> Layout {
    let rank = ranks(nodes.len(), arrows);
    let mut out = Layout::default();
    for (n, size) in nodes.iter().enumerate() {
        out.slots.push(Slot { what: What::Node(n), row: rank[n] * 2, size: *size, at: (0.0, 0.0), band: (0.0, 0.0) });
    }
    for (n, (from, to, label)) in arrows.iter().enumerate() {
        // An arrow back up is laid out like one that goes down, and drawn the other way round.
        let (top, bottom) = if rank[*from] <= rank[*to] { (*from, *to) } else { (*to, *from) };
        let mut chain = vec![top];
        for row in rank[top] * 2 + 1..rank[bottom] * 2 {
            let (what, size) = if chain.len() == 1 { (What::Label(n), *label) } else { (What::Passage, (10.0, 10.0)) };
            out.slots.push(Slot { what, row, size, at: (0.0, 0.0), band: (0.0, 0.0) });
            chain.push(out.slots.len() - 1);
        }
        chain.push(bottom);
        if top != *from {
            chain.reverse();
        }
        out.chains.push(chain);
    }
    place(&mut out);
    out
}

/// How far below the first row each node stands: below everything that leads to it, arrows back left out.
fn ranks(nodes: usize, arrows: &[(usize, usize, (Size, Size))]) -> Vec<usize> {
    // An arrow leads back when its end was met on the way to its beginning; what is left has no circle.
    let mut forward: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    let mut state = vec![0_u8; nodes];
    for start in 0..nodes {
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            if next == 0 {
                if state[node] != 0 {
                    continue;
                }
                state[node] = 1;
            }
            let out: Vec<usize> = arrows.iter().filter(|(from, to, _)| *from == node && to != from).map(|(_, to, _)| *to).collect();
            match out.get(next) {
                Some(to) => {
                    stack.push((node, next + 1));
                    if state[*to] != 1 {
                        forward[node].push(*to);
                        stack.push((*to, 0));
                    }
                }
                None => state[node] = 2,
            }
        }
    }
    let mut rank = vec![0; nodes];
    for _ in 0..nodes {
        let mut moved = false;
        for from in 0..nodes {
            for to in &forward[from] {
                if rank[*to] <= rank[from] {
                    rank[*to] = rank[from] + 1;
                    moved = true;
                }
            }
        }
        if !moved {
            break;
        }
    }
    rank
}

fn place(layout: &mut Layout) {
    let rows = layout.slots.iter().map(|s| s.row).max().map_or(0, |last| last + 1);
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); rows];
    for (n, slot) in layout.slots.iter().enumerate() {
        order[slot.row].push(n);
    }
    let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); layout.slots.len()];
    for pair in layout.chains.iter().flat_map(|c| c.windows(2)) {
        neighbours[pair[0]].push(pair[1]);
        neighbours[pair[1]].push(pair[0]);
    }
    let mut x: Vec<Size> = vec![0.0; layout.slots.len()];
    for row in &order {
        spread(&mut x, row, &layout.slots, None);
    }
    // Each row in turn moves to where its neighbours above are, then below, until little moves any more.
    for sweep in 0..12 {
        let down = sweep % 2 == 0;
        let turn: Vec<usize> = if down { (0..rows).collect() } else { (0..rows).rev().collect() };
        for r in turn {
            let wanted: Vec<Size> = order[r]
                .iter()
                .map(|n| {
                    let beside = neighbours[*n].iter().filter(|o| (layout.slots[**o].row < r) == down);
                    let places: Vec<Size> = beside.map(|o| x[*o]).collect();
                    if places.is_empty() { x[*n] } else { places.iter().sum::<Size>() / places.len() as Size }
                })
                .collect();
            let mut row: Vec<(Size, usize)> = wanted.into_iter().zip(order[r].iter().copied()).collect();
            if sweep < 6 {
                row.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
            order[r] = row.iter().map(|(_, n)| *n).collect();
            let wanted: Vec<Size> = row.iter().map(|(w, _)| *w).collect();
            spread(&mut x, &order[r], &layout.slots, Some(&wanted));
        }
    }
    let left = layout.slots.iter().zip(&x).map(|(s, x)| x - s.size.0 / 2.0).fold(Size::INFINITY, Size::min);
    let right = layout.slots.iter().zip(&x).map(|(s, x)| x + s.size.0 / 2.0).fold(Size::NEG_INFINITY, Size::max);
    let mut y = 0.0;
    for row in &order {
        let height = row.iter().map(|n| layout.slots[*n].size.1).fold(0.0, Size::max);
        for n in row {
            let slot = &mut layout.slots[*n];
            slot.at = (x[*n] - left, y + (height - slot.size.1) / 2.0);
            slot.band = (y, y + height);
        }
        y += height + BELOW;
    }
    layout.size = if layout.slots.is_empty() { (0.0, 0.0) } else { (right - left, y - BELOW) };
}

/// Puts a row beside one another, as near to the wanted places as their widths allow.
fn spread(x: &mut [Size], row: &[usize], slots: &[Slot], wanted: Option<&[Size]>) {
    let mut end = Size::NEG_INFINITY;
    for (at, n) in row.iter().enumerate() {
        let half = slots[*n].size.0 / 2.0;
        let least = if end.is_finite() { end + BESIDE + half } else { half };
        x[*n] = match wanted {
            Some(wanted) if end.is_finite() => wanted[at].max(least),
            Some(wanted) => wanted[at],
            None => least,
        };
        end = x[*n] + half;
    }
    // What was pushed aside is shared by the whole row.
    if let (Some(wanted), false) = (wanted, row.is_empty()) {
        let off = row.iter().zip(wanted).map(|(n, w)| x[*n] - w).sum::<Size>() / row.len() as Size;
        row.iter().for_each(|n| x[*n] -= off);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: (Size, Size) = (100.0, 30.0);

    #[test]
    fn nothing_lies_over_anything_and_arrows_lead_down() {
        // 0 → 1 → 2, 0 → 2 directly, 1 → 3.
        let arrows = [(0, 1, BOX), (1, 2, (200.0, 20.0)), (0, 2, BOX), (1, 3, BOX)];
        let found = layout(&[BOX; 4], &arrows);
        for (i, a) in found.slots.iter().enumerate() {
            for b in &found.slots[i + 1..] {
                let apart = (a.at.0 - b.at.0).abs() >= (a.size.0 + b.size.0) / 2.0;
                let above = a.at.1 + a.size.1 <= b.at.1 || b.at.1 + b.size.1 <= a.at.1;
                assert!(apart || above, "{a:?} {b:?}");
            }
            assert!(a.at.0 - a.size.0 / 2.0 >= -0.001 && a.at.0 + a.size.0 / 2.0 <= found.size.0 + 0.001, "{a:?}");
        }
        let rows: Vec<usize> = found.slots[..4].iter().map(|s| s.row).collect();
        assert_eq!(rows, [0, 2, 4, 4]);
        assert_eq!(found.chains[2].len(), 5, "the direct arrow passes by the row of node 1");
    }

    #[test]
    fn a_circle_and_an_arrow_to_itself_have_a_place_too() {
        let found = layout(&[BOX; 3], &[(0, 1, BOX), (1, 2, BOX), (2, 0, BOX), (1, 1, BOX)]);
        assert_eq!(found.slots[..3].iter().map(|s| s.row).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!((found.chains[2].first(), found.chains[2].last()), (Some(&2), Some(&0)));
        assert_eq!(found.chains[3], [1, 1]);
    }
}
