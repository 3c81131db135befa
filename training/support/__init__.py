"""What all rooms use: the frame of a command, processes and devices, plots."""
