"""What can go wrong with releases, made to happen: kills, full disks, damages, hostile files, names."""
