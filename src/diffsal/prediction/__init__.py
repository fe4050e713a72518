"""A video in, one saliency map per frame out."""
