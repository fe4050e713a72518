"""Opens anything people have: files, folders, cameras, sound; one clock."""
