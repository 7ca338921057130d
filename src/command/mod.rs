//! What is known of each command.
