"""The messages of the contract, generated from sdk/proto by make gen."""
