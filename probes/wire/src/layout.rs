//! Layout of ring files and of a process's control file: magic numbers, versions, offsets, sizes.
