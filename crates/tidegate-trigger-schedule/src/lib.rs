//! Acts on triggers with a schedule.
//!
//! When a trigger ticks, and what becomes of ticks that were missed, are rules of `tidegate_core::schedule`. This is the
//! loop around them: it follows the triggers there are ([`Cursors`]), has one timer for all of them, and has a tick that is
//! due turned into an invocation by whoever accepts such ([`Fire`]).
//!
//! **Each tick once.** A tick is acted on first, and only then is it written down that it was. A crash in between acts on
//! it a second time, under the same [key](Tick::key), by which whoever accepts it tells that it has it already. Nothing
//! else has to be durable: the next tick follows from the cursor and the schedule.
//!
//! A trigger's cursor is written with its status. It says of which schedule it is and whether the trigger was paused then,
//! so that a change that was made while nobody looked is noticed: ticks of a schedule begin with the moment at which it is
//! first seen, and those of a pause are no missed ones.
//!
//! **Clocks.** The timer runs on a clock that never jumps, the schedule on one that may. At the latest after [`LOOK`] the
//! two are compared, and if they went apart all triggers are looked at again.

#![forbid(unsafe_code)]

mod run;
mod seam;
mod table;
mod trigger;

pub use run::{AT_ONCE, LOOK, run};
pub use seam::{Change, Clock, Cursors, Fire, Fired, Refused, SystemClock, Unwritten};
pub use trigger::{Id, Known, State, Tick, Wanted};
