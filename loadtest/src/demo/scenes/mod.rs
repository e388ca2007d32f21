//! The scenes, one file each: the script of both sides, and what must be true at the end.

pub(super) mod hang_up;
pub(super) mod loss;
pub(super) mod move_on;
pub(super) mod roll_over;
pub(super) mod talk;
pub(super) mod tool;
pub(super) mod transfer;
