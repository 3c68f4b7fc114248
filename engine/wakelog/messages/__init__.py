"""Messages between jobs: those that were sent are delivered (I2)."""
