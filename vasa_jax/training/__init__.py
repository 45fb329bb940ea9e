"""Training of both stages: one pure step, two ways to spread it, one loop (VASA-1 sections 3.1 and 3.2; design
section 2)."""
