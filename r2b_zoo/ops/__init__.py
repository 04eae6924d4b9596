"""Operations for training: fused passes, bit counting, half precision, batch norm over several devices."""
