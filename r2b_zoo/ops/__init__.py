"""What makes a training step fast: fused passes, bit counting, half precision, batch norm over several devices."""
