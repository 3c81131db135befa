"""The pass of CLIP and teacher over all faces, and the cache of vectors that it fills."""
