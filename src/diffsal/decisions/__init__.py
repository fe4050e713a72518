"""What follows from where people look: crops, regions, cuts compared, thumbnails, shots, importance for codecs"""
