//! What is on a disk: partitions, file systems, their files.
