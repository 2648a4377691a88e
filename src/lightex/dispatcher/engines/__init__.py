"""The engines that come with LightEx; each is found through its entry point."""
