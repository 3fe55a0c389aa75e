"""LiveKit as the rest of the engine sees it. Only this package imports livekit."""
