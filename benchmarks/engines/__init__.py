"""Ballast beside a bare vLLM server and Ray Serve's own LLM application: the same weights, the same
engine flags, on a CPU; what is lost between the engine and the client."""
