"""The live server: sessions that speak as sound comes in, over WebSocket and WebRTC, and for voice agents."""
