"""Stage 2: holistic facial dynamics generated from speech by a diffusion transformer (VASA-1 section 3.2)."""
