"""Stage 1, the face autoencoder: a portrait becomes a canonical volume, a frame becomes pose and dynamics, and the two
together become a picture again (VASA-1 section 3.1, with MegaPortraits' network)."""
