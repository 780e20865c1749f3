"""The joint model: latents of the world, the two towers and the bridge, and the two experts."""
