//! The times that a phase's script is made of: how long a fault holds, how long it is quiet between
//! two, how long clients play, how late bytes come, how old a hit may be before all is compared.
//!
//! They say what is played. Whether something has come about is asked or awaited, never timed.

use std::thread;
use std::time::Duration;

/// Lets so much of the script's time go by.
pub(crate) fn play(time: Duration) {
    thread::sleep(time);
}
