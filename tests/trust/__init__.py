"""What happens with hostile input, broken files, full disks and interruptions."""
