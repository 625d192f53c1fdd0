//! Loads and stores of every space, type and width; addresses; what is refused; faults and their corrected twins.

mod access;
mod faults;
mod forms;
mod pointers;
