"""What the engines that run containers share: the daemon, images, and what a job is as a call of docker."""
