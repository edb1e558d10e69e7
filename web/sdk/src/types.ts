// types.ts - what goes in and what comes out, the same for both backends.

/** Who goes first when several answers are wanted at once: they take turns between two tokens. */
export type Priority = 'now' | 'normal' | 'idle';

export interface Sampling {
  /** Tokens to write at most. Default 128. */
  maxTokens?: number;
  /** 0: always the likeliest token. Default 0.7. */
  temperature?: number;
  /** Default 0.95. */
  topP?: number;
  topK?: number;
  minP?: number;
  repeatPenalty?: number;
  /** Same seed, same text. Absent: a new one, which the receipt tells. */
  seed?: number;
  /** The answer ends before any of these. */
  stop?: string | string[];
}

export interface Asking {
  signal?: AbortSignal;
  priority?: Priority;
}

export type AskOptions = Sampling & Asking;

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** Where an answer was made, by what, and what left this device for it. */
export interface Receipt {
  id: string;
  place: 'tab' | 'device' | 'node';
  /** In words: "this tab", "this device", or the name of a node. */
  where: string;
  model: string;
  modelSha256: string;
  /** Bytes that left this device. */
  bytesOut: number;
  ms: number;
  /** From the call to the first piece of text. */
  firstMs: number;
  tokens: number;
  tokensPerSecond: number;
  seed: number | null;
  /** When it was made, ISO 8601. */
  at: string;
  /** How often the engine was restarted while it worked on this. */
  restarts: number;
}

export interface Completion {
  text: string;
  finish: 'stop' | 'length';
  usage: { promptTokens: number; cachedTokens: number; completionTokens: number };
  receipt: Receipt;
}

export interface Vectors {
  /** One for each text, of length 1. */
  vectors: Float32Array[];
  usage: { promptTokens: number };
  receipt: Receipt;
}

export interface About {
  name: string;
  sha256: string;
  architecture: string;
  parameters: number;
  contextTokens: number;
  embeddingSize: number;
  gives: 'text' | 'vectors';
  chatTemplate: boolean;
  /** Bytes of the file; 0 when it is not known. */
  bytes: number;
  /** The build of the engine that runs in this tab, and its threads. */
  engine?: { file: string; threads: number; memoryBytes: number };
}

export interface Progress {
  stage: 'manifest' | 'download' | 'read' | 'compile' | 'open' | 'ready';
  model: string;
  loaded: number;
  total: number;
  /** Of `loaded`, what came over the network. */
  fetched: number;
  /** False when the browser gives no room: then the model is gone when the tab is closed. */
  kept: boolean;
}

export interface OpenOptions {
  /**
   * A model of the node by name, or the address of a manifest; several: the first that fits this device's memory.
   * Absent: the first model of the node, or the one that stands beside the SDK's files.
   */
  model?: string | string[];
  backend?: 'auto' | 'tab' | 'node';
  /** Address of the node. Default: where the page came from. */
  base?: string;
  /** Where worker.js and the .wasm files are. Default: where this module came from. */
  files?: string;
  /** Key of the node. */
  key?: string;
  /** Ed25519 keys in hex. With them only models whose manifest is signed by one of these are taken. */
  publicKeys?: string[];
  /** Keeps the model encrypted with a key that cannot be exported. */
  encrypt?: boolean;
  /** Room for so many tokens. Default: what the model was made for, at most 4,096. */
  context?: number;
  /** Default: one for each core, at most 4; 1 where the page is not isolated. */
  threads?: number;
  signal?: AbortSignal;
  onprogress?: (p: Progress) => void;
}

export interface StoredModel {
  name: string;
  sha256: string;
  bytes: number;
  storedBytes: number;
  complete: boolean;
  encrypted: boolean;
  /** The key that signed the manifest, in hex; null: nobody. */
  signedBy: string | null;
  manifest: string;
}

export interface StorageState {
  /** False: there is no storage for models here. */
  available: boolean;
  persisted: boolean;
  usedBytes: number;
  quotaBytes: number;
}
