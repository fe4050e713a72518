"""An eye tracker's samples into fixations and maps."""
