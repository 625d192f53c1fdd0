//! Special registers: PTX's `.sreg` space.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::lanes::{LANES, Row, WideRow};
use super::{Cluster, Launch, Warp};
use crate::ptx::Type;

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sreg {
    /// `%tid.x`, `.y`, `.z`
    Thread(u8),
    /// `%ntid`
    Threads(u8),
    /// `%ctaid`
    Block(u8),
    /// `%nctaid`
    Blocks(u8),
    /// `%clusterid`
    ClusterIndex(u8),
    /// `%nclusterid`
    Clusters(u8),
    /// `%cluster_ctaid`
    BlockInCluster(u8),
    /// `%cluster_nctaid`
    BlocksOfCluster(u8),
    /// `%cluster_ctarank`
    RankInCluster,
    /// `%cluster_nctarank`
    RanksOfCluster,
    /// `%is_explicit_cluster`
    ExplicitCluster,
    /// `%laneid`
    Lane,
    /// `%warpid`
    Warp,
    /// `%nwarpid`
    Warps,
    /// `%smid`
    Multiprocessor,
    /// `%nsmid`
    Multiprocessors,
    /// `%gridid`
    Grid,
    /// `%lanemask_eq`
    MaskEqual,
    /// `%lanemask_le`
    MaskUpTo,
    /// `%lanemask_lt`
    MaskBelow,
    /// `%lanemask_ge`
    MaskFrom,
    /// `%lanemask_gt`
    MaskAbove,
    /// `%clock64`
    Clock64,
    /// `%clock`
    Clock,
    /// `%clock_hi`
    ClockHigh,
    /// `%globaltimer`
    Timer,
    /// `%globaltimer_lo`
    TimerLow,
    /// `%globaltimer_hi`
    TimerHigh,
    /// `%envreg1`, `%envreg2`: the halves, the upper first, of the address of what a grid meets at
    Workspace(u8),
    /// `%dynamic_smem_size`
    DynamicShared,
    /// `%total_smem_size`
    TotalShared,
    /// `%aggr_smem_size`
    AllShared,
    /// `%reserved_smem_offset_begin`
    ReservedBegin,
    /// `%reserved_smem_offset_end`, and `_cap`
    ReservedEnd,
}

impl Sreg {
    /// What a name stands for.
    pub fn parse(name: &str) -> Option<Sreg> {
        let name = name.strip_prefix('%')?;
        if let Some((stem, axis)) = name.split_once('.') {
            let axis = match axis {
                "x" => 0,
                "y" => 1,
                "z" => 2,
                _ => return None,
            };
            return Some(match stem {
                "tid" => Sreg::Thread(axis),
                "ntid" => Sreg::Threads(axis),
                "ctaid" => Sreg::Block(axis),
                "nctaid" => Sreg::Blocks(axis),
                "clusterid" => Sreg::ClusterIndex(axis),
                "nclusterid" => Sreg::Clusters(axis),
                "cluster_ctaid" => Sreg::BlockInCluster(axis),
                "cluster_nctaid" => Sreg::BlocksOfCluster(axis),
                _ => return None,
            });
        }
        Some(match name {
            "cluster_ctarank" => Sreg::RankInCluster,
            "cluster_nctarank" => Sreg::RanksOfCluster,
            "is_explicit_cluster" => Sreg::ExplicitCluster,
            "laneid" => Sreg::Lane,
            "warpid" => Sreg::Warp,
            "nwarpid" => Sreg::Warps,
            "smid" => Sreg::Multiprocessor,
            "nsmid" => Sreg::Multiprocessors,
            "gridid" => Sreg::Grid,
            "lanemask_eq" => Sreg::MaskEqual,
            "lanemask_le" => Sreg::MaskUpTo,
            "lanemask_lt" => Sreg::MaskBelow,
            "lanemask_ge" => Sreg::MaskFrom,
            "lanemask_gt" => Sreg::MaskAbove,
            "clock64" => Sreg::Clock64,
            "clock" => Sreg::Clock,
            "clock_hi" => Sreg::ClockHigh,
            "globaltimer" => Sreg::Timer,
            "globaltimer_lo" => Sreg::TimerLow,
            "globaltimer_hi" => Sreg::TimerHigh,
            "envreg1" => Sreg::Workspace(1),
            "envreg2" => Sreg::Workspace(2),
            "dynamic_smem_size" => Sreg::DynamicShared,
            "total_smem_size" => Sreg::TotalShared,
            "aggr_smem_size" => Sreg::AllShared,
            "reserved_smem_offset_begin" => Sreg::ReservedBegin,
            "reserved_smem_offset_end" | "reserved_smem_offset_cap" => Sreg::ReservedEnd,
            _ => return None,
        })
    }

    /// Its type.
    pub fn ty(self) -> Type {
        match self {
            Sreg::ExplicitCluster => Type::Pred,
            Sreg::Clock64 | Sreg::Timer | Sreg::Grid => Type::U64,
            _ => Type::U32,
        }
    }

    /// Whether it changes while a thread does nothing.
    pub fn runs(self) -> bool {
        matches!(
            self,
            Sreg::Clock64 | Sreg::Clock | Sreg::ClockHigh | Sreg::Timer | Sreg::TimerLow | Sreg::TimerHigh
        )
    }

    /// Its value in each lane.
    pub fn value(self, launch: &Launch, cluster: &Cluster, warp: &Warp) -> WideRow {
        let block = &cluster.blocks[warp.block as usize];
        let axis_of = |of: [u32; 3], axis: u8| u64::from(of[usize::from(axis)]);
        let one = match self {
            Sreg::Thread(axis) => return threads(launch, warp, axis).map(u64::from),
            Sreg::Lane => return std::array::from_fn(|lane| lane as u64),
            Sreg::MaskEqual => return lane_mask(|lane| 1 << lane),
            Sreg::MaskUpTo => return lane_mask(|lane| u32::MAX >> (31 - lane)),
            Sreg::MaskBelow => return lane_mask(|lane| (1 << lane) - 1),
            Sreg::MaskFrom => return lane_mask(|lane| u32::MAX << lane),
            Sreg::MaskAbove => return lane_mask(|lane| u32::MAX << lane & !(1 << lane)),
            Sreg::Threads(axis) => axis_of(launch.threads, axis),
            Sreg::Block(axis) => axis_of(block.index, axis),
            Sreg::Blocks(axis) => axis_of(launch.grid, axis),
            Sreg::ClusterIndex(axis) => axis_of(block.index, axis) / axis_of(launch.cluster, axis),
            Sreg::Clusters(axis) => axis_of(launch.grid, axis) / axis_of(launch.cluster, axis),
            Sreg::BlockInCluster(axis) => axis_of(block.index, axis) % axis_of(launch.cluster, axis),
            Sreg::BlocksOfCluster(axis) => axis_of(launch.cluster, axis),
            Sreg::RankInCluster => u64::from(warp.block),
            Sreg::RanksOfCluster => cluster.blocks.len() as u64,
            Sreg::ExplicitCluster => u64::from(launch.cluster != [1, 1, 1]),
            Sreg::Warp => u64::from(warp.index),
            Sreg::Warps => u64::from(launch.device.threads_per_multiprocessor / 32),
            Sreg::Multiprocessor => cluster.number % u64::from(launch.device.multiprocessors),
            Sreg::Multiprocessors => u64::from(launch.device.multiprocessors),
            Sreg::Grid => launch.number,
            Sreg::Clock64 => clock(launch),
            Sreg::Clock => clock(launch) & 0xffff_ffff,
            Sreg::ClockHigh => clock(launch) >> 32,
            Sreg::Timer => timer(),
            Sreg::TimerLow => timer() & 0xffff_ffff,
            Sreg::TimerHigh => timer() >> 32,
            Sreg::Workspace(1) => launch.workspace >> 32,
            Sreg::Workspace(_) => launch.workspace & 0xffff_ffff,
            Sreg::DynamicShared => u64::from(launch.dynamic_shared),
            Sreg::TotalShared => u64::from(launch.program.shared_bytes + launch.dynamic_shared),
            Sreg::AllShared => block.shared.len() as u64,
            Sreg::ReservedBegin => 0,
            Sreg::ReservedEnd => u64::from(launch.device.shared_base()),
        };
        [one; LANES]
    }
}

/// `%tid` of each lane along an axis.
pub fn threads(launch: &Launch, warp: &Warp, axis: u8) -> Row {
    let [x, y, _] = launch.threads;
    std::array::from_fn(|lane| {
        let thread = warp.index * 32 + lane as u32;
        match axis {
            0 => thread % x,
            1 => thread / x % y,
            _ => thread / x / y,
        }
    })
}

fn lane_mask(of: impl Fn(usize) -> u32) -> WideRow {
    std::array::from_fn(|lane| u64::from(of(lane)))
}

/// Cycles since the process first asked, at the clock of the device, were it as slow as this interpreter.
fn clock(launch: &Launch) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let nanoseconds = START.get_or_init(Instant::now).elapsed().as_nanos();
    (nanoseconds * u128::from(launch.device.clock) / 1_000_000) as u64
}

/// Nanoseconds.
fn timer() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
