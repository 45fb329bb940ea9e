"""Diffusion that knows no network: schedule, process, guidance, DDIM (VASA-1 section 3.2)."""
