"""What is asked: the async clients of each type of job, and what is asked about all of them."""
