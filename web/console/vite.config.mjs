// vite.config.mjs - the console: one script, one style sheet, the SDK from /sdk/nigh.js.
import { defineConfig } from 'vite';

export default defineConfig({
  root: new URL(".", import.meta.url).pathname,
  publicDir: 'public',
  logLevel: 'warn',
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    outDir: '../../build/web/site', emptyOutDir: false, modulePreload: false, target: 'es2022', cssCodeSplit: false, assetsInlineLimit: 0,
    rollupOptions: {
      external: ['nigh'],
      output: { paths: { nigh: '/sdk/nigh.js' }, entryFileNames: 'console.js', assetFileNames: 'console[extname]' },
    },
  },
});
