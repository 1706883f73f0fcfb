"""The engine: runs a plan. It knows the store, the layers, the contexts and the sandbox, and wires them step by step."""
