"""Decoding that knows from the packets which frames it needs."""
